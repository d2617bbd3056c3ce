/*
 * pages.h
 *		Pages that a scan comes back to, kept at hand.
 */
#ifndef ES_TABLE_PAGES_H
#define ES_TABLE_PAGES_H

#include "base/base.h"

#include "access/htup.h"
#include "storage/itemptr.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

typedef struct EsPages EsPages;

#define ES_PAGES_RUN	32		/* rows that are fetched together, at most */

extern bool es_pages_serve(Relation rel, Snapshot snapshot);
extern EsPages *es_pages_begin(Snapshot snapshot, bool comes_back, Size bytes);
extern bool es_pages_come_back(const EsPages *pages);
extern bool es_pages_fetch(EsPages *pages, Relation rel, ItemPointer tid, HeapTuple row, bool *all_dead);
extern int	es_pages_fetch_run(EsPages *pages, Relation rel, ItemPointer tids, int count, HeapTuple rows);
extern void es_pages_expect(EsPages *pages, Relation rel, ItemPointer tid);
extern void es_pages_prefetch(EsPages *pages, Relation rel, ItemPointer tid);
extern void es_pages_forget(EsPages *pages, Relation rel);
extern void es_pages_end(EsPages *pages);

#endif							/* ES_TABLE_PAGES_H */
