/*
 * readmodel.h
 *		The states that projections with a reducer keep, by key.
 */
#ifndef ES_PROJECTION_READMODEL_H
#define ES_PROJECTION_READMODEL_H

#include "base/base.h"

#include "access/genam.h"
#include "access/skey.h"
#include "utils/jsonb.h"
#include "utils/snapshot.h"

#include "projection/projection.h"
#include "table/table.h"

#define ES_MAX_KEY		2000	/* bytes; what an index takes */

/* A row of a table of states. */
typedef struct EsKeyState
{
	const text *key;
	int64		version;
	int64		position;
	Jsonb	   *state;			/* NULL: the state is NULL */
	text	   *state_text;		/* NULL: it is, or is kept as jsonb */
	text	   *sealed;			/* see EsStoredState */
	bool		exists;
	bool		gone;			/* with its stream: the row is to go, too */
	ItemPointerData tid;
} EsKeyState;

/* The states of one generation, open for reading and writing. */
typedef struct EsReadModel
{
	int64		projection_id;
	int64		generation;
	EsTable		table;
	MemoryContext context;		/* of the scan */
	Snapshot	snapshot;		/* NULL: read the newest, whoever wrote it */
	IndexScanDesc scan;
	SnapshotData dirty;
	ScanKeyData keys[3];
	EsKeyState *added;			/* not yet written */
	int			nadded;
	Size		added_bytes;
} EsReadModel;

extern void es_readmodel_open(EsReadModel *model, int64 id, int64 generation, bool exclusive);
extern void es_readmodel_close(EsReadModel *model);
extern void es_readmodel_drop(int64 id, int64 generation);
extern bool es_readmodel_sweep(int64 id, int64 before, int most);

extern const EsProjection *es_readmodel_get_locked(const text *name, int rights);

/* For whoever has the generation to himself. */
extern bool es_readmodel_find(EsReadModel *model, EsKeyState *state);
extern void es_readmodel_put(EsReadModel *model, EsKeyState *state);
extern void es_readmodel_flush(EsReadModel *model);

/* For transactions that share it. */
extern void es_readmodel_find_newest(EsReadModel *model, EsKeyState *state);
extern bool es_readmodel_replace(EsReadModel *model, EsKeyState *state, int64 before);

#endif							/* ES_PROJECTION_READMODEL_H */
