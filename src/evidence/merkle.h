/*
 * merkle.h
 *		The tree over the leaves, as the kept tiles have it.
 */
#ifndef ES_EVIDENCE_MERKLE_H
#define ES_EVIDENCE_MERKLE_H

#include "base/base.h"

#include "utils/snapshot.h"

#include "evidence/digest.h"
#include "evidence/tile.h"

#define ES_MERKLE_MOST_PATH		64	/* digests in a proof */

/* A tile, and the nodes above its digests. */
typedef struct EsMerkleTile
{
	int64		number;			/* -1: none */
	int			count;
	EsDigest	nodes[2 * ES_TILE_SIZE];
} EsMerkleTile;

/* The tree, as a snapshot sees its tiles. */
typedef struct EsMerkle
{
	EsDigester *digester;
	Snapshot	snapshot;
	MemoryContext context;
	EsMerkleTile *tiles[ES_TILE_LEVELS];	/* the ones that were asked for
											 * last */
	EsTile		read;
	int			bad_level;		/* where an answer fails: the tile that is
								 * missing, damaged or too short */
	int64		bad_tile;
} EsMerkle;

/* Digests that prove something. */
typedef struct EsMerklePath
{
	int			length;
	EsDigest	digests[ES_MERKLE_MOST_PATH];
} EsMerklePath;

extern EsMerkle *es_merkle_begin(EsDigester *digester, Snapshot snapshot);
extern bool es_merkle_node(EsMerkle *tree, int height, int64 index, EsDigest *node);
extern void es_merkle_try(EsMerkle *tree, int64 number, const EsDigest *leaves, int count);
extern bool es_merkle_root(EsMerkle *tree, int64 size, EsDigest *root);
extern bool es_merkle_inclusion(EsMerkle *tree, int64 leaf, int64 size, EsMerklePath *path);
extern bool es_merkle_consistency(EsMerkle *tree, int64 first, int64 second, EsMerklePath *path);
extern void es_merkle_tile_root(EsDigester *digester, const EsDigest *digests, EsDigest *root);

#endif							/* ES_EVIDENCE_MERKLE_H */
