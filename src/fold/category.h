/*
 * category.h
 *		All streams of a category folded, by several processes.
 */
#ifndef ES_FOLD_CATEGORY_H
#define ES_FOLD_CATEGORY_H

#include "base/base.h"

#include "storage/dsm.h"
#include "storage/shm_toc.h"

/* Found by name, as the library's entry for parallel workers. */
extern PGDLLEXPORT void es_category_worker_main(dsm_segment *segment, shm_toc *toc);

#endif							/* ES_FOLD_CATEGORY_H */
