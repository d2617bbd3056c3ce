/*
 * category.h
 *		All streams of a category folded, by several processes.
 */
#ifndef ES_FOLD_CATEGORY_H
#define ES_FOLD_CATEGORY_H

#include "base/base.h"

#include "access/tupdesc.h"
#include "storage/dsm.h"
#include "storage/shm_toc.h"
#include "utils/resowner.h"
#include "utils/snapshot.h"
#include "utils/tuplestore.h"

#include "fold/reducer.h"

typedef struct EsCategoryFold EsCategoryFold;

/* How much is to be folded at a time. */
typedef struct EsCategoryPortion
{
	int64		rows;
	Size		bytes;			/* of rows */
	Size		bytes_with_crew;	/* where workers help: to start them takes
									 * time */
	bool		keeps_crew;		/* they go on between portions: until the last
								 * one, or es_category_pause, nothing can be
								 * written */
} EsCategoryPortion;

/* The moment that a fold is of. */
typedef struct EsCategoryMoment
{
	Snapshot	snapshot;		/* NULL: none yet; registered with: */
	ResourceOwner owner;
} EsCategoryMoment;

/* What a fold has done, for EXPLAIN. */
typedef struct EsCategoryCounts
{
	int64		portions;
	int64		rows;
	int64		own_rows;		/* of the leader's */
	int64		workers;		/* that were launched */
} EsCategoryCounts;

extern EsCategoryMoment es_category_take_moment(void);
extern void es_category_drop_moment(EsCategoryMoment *moment);
extern EsCategoryFold *es_category_begin(FunctionCallInfo fcinfo, Tuplestorestate *result, TupleDesc desc,
										 bool with_states, EsCategoryMoment *moment);
extern bool es_category_next(EsCategoryFold *fold, const EsCategoryPortion *portion);
extern bool es_category_pause(EsCategoryFold *fold);
extern void es_category_rewind(EsCategoryFold *fold);
extern const EsReducer *es_category_reducer(const EsCategoryFold *fold);
extern const EsCategoryCounts *es_category_counts(const EsCategoryFold *fold);
extern void es_category_end(EsCategoryFold *fold);

extern bool es_category_is_replay(Oid function);

/* Found by name, as the library's entry for parallel workers. */
extern PGDLLEXPORT void es_category_worker_main(dsm_segment *segment, shm_toc *toc);

#endif							/* ES_FOLD_CATEGORY_H */
