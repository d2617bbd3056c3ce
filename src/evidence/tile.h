/*
 * tile.h
 *		The digests of a seal's tree that are kept, in tiles.
 */
#ifndef ES_EVIDENCE_TILE_H
#define ES_EVIDENCE_TILE_H

#include "base/base.h"

#include "utils/snapshot.h"

#include "evidence/digest.h"
#include "table/columns.h"

#define ES_TILE_HEIGHT	8		/* levels of the tree that a tile spans */
#define ES_TILE_SIZE	(1 << ES_TILE_HEIGHT)	/* digests in a tile */
#define ES_TILE_LEVELS	8		/* levels of tiles; enough for all positions */

/* One tile: those of level 0 have leaves, others the roots of the tiles below. */
typedef struct EsTile
{
	int			level;
	int64		number;
	int			count;			/* digests */
	EsDigest	digests[ES_TILE_SIZE];

	/* of level 0 */
	int64		after;			/* the position of the leaf before */
	int64		positions[ES_TILE_SIZE];	/* of the leaves */
} EsTile;

/* What was found where a tile should be. */
typedef enum EsTileState
{
	ES_TILE_GOOD,
	ES_TILE_MISSING,
	ES_TILE_DAMAGED				/* it cannot be read */
} EsTileState;

extern const EsShape es_tile_shape; /* of eventstore.seal_tiles */

extern EsTileState es_tile_read(int level, int64 number, Snapshot snapshot, EsTile *tile);
extern EsTileState es_tile_read_positions(int64 number, Snapshot snapshot, EsTile *tile);
extern bool es_tile_read_after(int64 number, Snapshot snapshot, int64 *after);
extern int64 es_tile_count(Snapshot snapshot);
extern int64 es_tile_find(int64 position, int64 count, Snapshot snapshot);
extern int	es_tile_find_leaf(const EsTile *tile, int64 position);
extern int64 es_tile_last_position(const EsTile *tile);
extern bool es_tile_any_beyond(int64 number, Snapshot snapshot, int64 *position);
extern void es_tile_write(const EsTile *tile, bool replaces);

#endif							/* ES_EVIDENCE_TILE_H */
