/*
 * findings.h
 *		What verifying has found, sorted and put into words.
 */
#ifndef ES_EVIDENCE_FINDINGS_H
#define ES_EVIDENCE_FINDINGS_H

#include "base/base.h"

#include "executor/tuptable.h"
#include "nodes/execnodes.h"
#include "utils/snapshot.h"
#include "utils/tuplestore.h"

#include "evidence/inspect.h"

#define ES_FINDINGS_MOST_MOVED	100

/* Columns of a finding. */
#define Anum_es_findings_position	1
#define Anum_es_findings_flaw		2
#define Anum_es_findings_other		3
#define Natts_es_findings			3

/* A few positions. */
typedef struct EsFewPositions
{
	int			count;
	int64		positions[ES_FINDINGS_MOST_MOVED];
} EsFewPositions;

/* The findings. */
typedef struct EsFindings
{
	TupleTableSlot *row;
	Tuplestorestate *rows;
	EsFewPositions strangers;	/* where an event is that was not sealed there */
	EsFewPositions vacated;		/* where an event is not that was */
	int64		from[ES_FINDINGS_MOST_MOVED];	/* where strangers were
												 * sealed; 0: nowhere */
	bool		any_removed;
	int64		last_event;		/* up to the last position that was looked at */
} EsFindings;

extern TupleDesc es_findings_desc(void);
extern void es_findings_fill(TupleTableSlot *row, int64 position, EsFlaw flaw, int64 other);
extern void es_findings_begin(EsFindings *findings);
extern void es_findings_take_row(EsFindings *findings, TupleTableSlot *row);
extern void es_findings_take(int64 position, EsFlaw flaw, int64 other, void *findings);
extern void es_findings_return(EsFindings *findings, const EsInspector *inspected, ReturnSetInfo *result);

#endif							/* ES_EVIDENCE_FINDINGS_H */
