/*
 * pages.h
 *		Pages that a scan comes back to, kept at hand.
 */
#ifndef ES_TABLE_PAGES_H
#define ES_TABLE_PAGES_H

#include "base/base.h"

#include "access/genam.h"
#include "access/htup.h"
#include "access/relscan.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

typedef struct EsPages EsPages;

extern bool es_pages_serve(Relation rel, Snapshot snapshot);
extern EsPages *es_pages_begin(Snapshot snapshot, bool comes_back);
extern bool es_pages_fetch(EsPages *pages, IndexScanDesc scan, HeapTuple row);
extern void es_pages_prefetch(EsPages *pages, IndexScanDesc scan, Size bytes);
extern void es_pages_forget(EsPages *pages, Relation rel);
extern void es_pages_end(EsPages *pages);

#endif							/* ES_TABLE_PAGES_H */
