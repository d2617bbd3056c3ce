/*
 * verify.h
 *		The log held against its seals, by several processes.
 */
#ifndef ES_EVIDENCE_VERIFY_H
#define ES_EVIDENCE_VERIFY_H

#include "base/base.h"

#include "storage/dsm.h"
#include "storage/shm_toc.h"

/* Found by name, as the library's entry for parallel workers. */
extern PGDLLEXPORT void es_verify_worker_main(dsm_segment *segment, shm_toc *toc);

#endif							/* ES_EVIDENCE_VERIFY_H */
