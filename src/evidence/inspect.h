/*
 * inspect.h
 *		A part of the log held against what was sealed of it.
 */
#ifndef ES_EVIDENCE_INSPECT_H
#define ES_EVIDENCE_INSPECT_H

#include "base/base.h"

#include "utils/snapshot.h"

#include "base/quiet.h"
#include "evidence/digest.h"
#include "evidence/filing.h"
#include "evidence/merkle.h"
#include "evidence/tile.h"

/* What can be wrong at a position; what the other number is, if there is one. */
typedef enum EsFlaw
{
	ES_FLAW_CHANGED,			/* the event is another one than was sealed */
	ES_FLAW_ILLEGIBLE,			/* its event cannot be read */
	ES_FLAW_REMOVED,			/* its event is gone */
	ES_FLAW_INSERTED,			/* an event where there was none */
	ES_FLAW_RETURNED,			/* it was scavenged, and is there */
	ES_FLAW_NOT_HIDDEN,			/* it is said to be scavenged, of a stream
								 * (id) that does not hide it */
	ES_FLAW_MISFILED,			/* it is not found by its stream, or its
								 * category */
	ES_FLAW_LEAF,				/* its kept digest is another one */
	ES_FLAW_TILE,				/* digests from there to another position do
								 * not make up what is above them */
	ES_FLAW_TILE_LOST,			/* they cannot be read; level */
	ES_FLAW_SEAL,				/* the seal does not follow from the digests */
	ES_FLAW_SEAL_LOST,			/* the seal cannot be read */
	ES_FLAW_SEAL_BOUND,			/* it has another position, or size */
	ES_FLAW_CHAIN,				/* it does not follow the one before */
	ES_FLAW_UNSEALED			/* digests from there on have no seal any more */
} EsFlaw;

/* Takes what was found. */
typedef void (*EsFlawTake) (int64 position, EsFlaw flaw, int64 other, void *arg);

/* Looks for flaws. */
typedef struct EsInspector
{
	int64		from;			/* positions of events that are looked at */
	int64		to;
	int64		size;			/* leaves that are sealed */
	int64		last_size;		/* of the last seal, -1 if it cannot be read;
								 * and its root */
	EsDigest	last_root;
	Snapshot	snapshot;
	EsFlawTake	take;
	void	   *arg;

	EsDigester	digester;
	EsMerkle   *tree;
	EsFiling   *filing;
	bool		any_scavenged;
	MemoryContext scratch;		/* of a tile */
	int64		after_number;	/* number of the tile that comes after this, */
	int64		after;			/* which has this last position */
	EsTile		tile;			/* the one that is looked at */
	EsDigest	found[ES_TILE_SIZE];	/* of the events */
	uint8		states[ES_TILE_SIZE];	/* what has become of the leaves */
} EsInspector;

extern bool es_inspect_try(EsQuietWork work, void *arg);
extern void es_inspect_begin(EsInspector *inspector, Snapshot snapshot);
extern void es_inspect_end(EsInspector *inspector);
extern void es_inspect_tile(EsInspector *inspector, int64 number);
extern void es_inspect_gap(EsInspector *inspector, int64 after, int64 upto);

#endif							/* ES_EVIDENCE_INSPECT_H */
