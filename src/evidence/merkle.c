/*
 * merkle.c
 *		The tree over the leaves, as the kept tiles have it.
 *
 * What is asked for is made of nodes over whole powers of two of leaves.  Such a node is in
 * the tile whose level is its height by eight: one of its digests, or a node above some of
 * them, which are made when the tile is read.  The last tile of each level is kept, so seals
 * that follow each other, and the nodes of one proof, read a tile once.
 *
 * All answers are from tiles, and so as good as these.
 */
#include "evidence/merkle.h"

#include "port/pg_bitutils.h"

/* es_merkle_begin makes what the tree is looked at with, in the current memory context. */
EsMerkle *
es_merkle_begin(EsDigester *digester, Snapshot snapshot)
{
	EsMerkle   *tree = palloc0(sizeof(EsMerkle));

	tree->digester = digester;
	tree->snapshot = snapshot;
	tree->context = CurrentMemoryContext;
	return tree;
}

/* ---- nodes ---- */

/* Where the nodes of a height begin in a tile. */
static inline int
nodes_of_height(int height)
{
	return 2 * ES_TILE_SIZE - (2 * ES_TILE_SIZE >> height);
}

/* Makes the nodes above so many digests. */
static void
fill_nodes(EsDigester *digester, EsDigest *nodes, int count)
{
	for (int height = 1; height <= ES_TILE_HEIGHT; height++)
	{
		const EsDigest *below = nodes + nodes_of_height(height - 1);
		EsDigest   *above = nodes + nodes_of_height(height);

		for (int i = 0; i < count >> height; i++)
			es_digest_pair(digester, &below[2 * i], &below[2 * i + 1], &above[i]);
	}
}

/* es_merkle_tile_root makes the root of a full tile of its digests. */
void
es_merkle_tile_root(EsDigester *digester, const EsDigest *digests, EsDigest *root)
{
	EsDigest	nodes[2 * ES_TILE_SIZE];

	memcpy(nodes, digests, sizeof(EsDigest) * ES_TILE_SIZE);
	fill_nodes(digester, nodes, ES_TILE_SIZE);
	*root = nodes[nodes_of_height(ES_TILE_HEIGHT)];
}

/* Gives the memory of the last tile of a level that was asked for. */
static EsMerkleTile *
get_tile_memory(EsMerkle *tree, int level)
{
	if (tree->tiles[level] == NULL)
	{
		tree->tiles[level] = MemoryContextAlloc(tree->context, sizeof(EsMerkleTile));
		tree->tiles[level]->number = -1;
	}
	return tree->tiles[level];
}

/*
 * es_merkle_try makes leaves those of a tile, in the place of what is stored, until another
 * tile of level 0 is asked for.
 */
void
es_merkle_try(EsMerkle *tree, int64 number, const EsDigest *leaves, int count)
{
	EsMerkleTile *tile = get_tile_memory(tree, 0);

	tile->number = number;
	tile->count = count;
	memcpy(tile->nodes, leaves, sizeof(EsDigest) * count);
	fill_nodes(tree->digester, tile->nodes, count);
}

/* Gives a tile, and its nodes. */
static const EsMerkleTile *
get_tile_nodes(EsMerkle *tree, int level, int64 number)
{
	EsMerkleTile *tile = get_tile_memory(tree, level);
	EsTileState state;

	if (tile->number == number)
		return tile;
	tile->number = -1;
	state = es_tile_read(level, number, tree->snapshot, &tree->read);
	tile->count = state == ES_TILE_GOOD ? tree->read.count : 0;
	memcpy(tile->nodes, tree->read.digests, sizeof(EsDigest) * tile->count);
	fill_nodes(tree->digester, tile->nodes, tile->count);
	tile->number = number;
	return tile;
}

/*
 * es_merkle_node gives the node of a height, 0 for leaves, by its index among those of the
 * height, whose leaves must all be there; false if a tile fails.
 */
bool
es_merkle_node(EsMerkle *tree, int height, int64 index, EsDigest *node)
{
	int			level = height / ES_TILE_HEIGHT;
	int			within = height % ES_TILE_HEIGHT;
	int64		number = index >> (ES_TILE_HEIGHT - within);
	int			place = index & ((ES_TILE_SIZE >> within) - 1);
	const EsMerkleTile *tile = get_tile_nodes(tree, level, number);

	if (place >= tile->count >> within)
	{
		tree->bad_level = level;
		tree->bad_tile = number;
		return false;
	}
	*node = tile->nodes[nodes_of_height(within) + place];
	return true;
}

/* ---- what is made of nodes ---- */

/* The largest power of two, as an exponent, up to a number of leaves, which is above 0. */
static inline int
largest_height(int64 leaves)
{
	return pg_leftmost_one_pos64(leaves);
}

/*
 * Makes the root of the tree over the leaves from one on up to, without, another one; the
 * first is a multiple of the largest power of two that is not above their number.
 */
static bool
get_root_of(EsMerkle *tree, int64 from, int64 upto, EsDigest *root)
{
	EsDigest	parts[64];
	int			count = 0;

	Assert(from < upto);
	do
	{
		int			height = largest_height(upto - from);

		if (!es_merkle_node(tree, height, from >> height, &parts[count++]))
			return false;
		from += INT64CONST(1) << height;
	} while (from < upto);
	*root = parts[--count];
	while (count > 0)
		es_digest_pair(tree->digester, &parts[--count], root, root);
	return true;
}

/* es_merkle_root makes the root over the first leaves, at least one; false if a tile fails. */
bool
es_merkle_root(EsMerkle *tree, int64 size, EsDigest *root)
{
	return get_root_of(tree, 0, size, root);
}

/* Adds the root over some leaves to a path. */
static bool
add_to_path(EsMerkle *tree, int64 from, int64 upto, EsMerklePath *path)
{
	return get_root_of(tree, from, upto, &path->digests[path->length++]);
}

/* Turns a path, which was made from the root on, round. */
static void
turn_path(EsMerklePath *path)
{
	for (int i = 0, j = path->length - 1; i < j; i++, j--)
	{
		EsDigest	other = path->digests[i];

		path->digests[i] = path->digests[j];
		path->digests[j] = other;
	}
}

/* Where the tree over the leaves of a range, two at least, is divided. */
static inline int64
middle_of(int64 from, int64 upto)
{
	return from + (INT64CONST(1) << largest_height(upto - from - 1));
}

/*
 * es_merkle_inclusion makes the audit path of a leaf in the tree over the first size ones,
 * from the leaf on: RFC 6962, 2.1.1.  False if a tile fails.
 */
bool
es_merkle_inclusion(EsMerkle *tree, int64 leaf, int64 size, EsMerklePath *path)
{
	int64		from = 0;
	int64		upto = size;

	path->length = 0;
	while (upto - from > 1)
	{
		int64		middle = middle_of(from, upto);
		bool		left = leaf < middle;

		if (!add_to_path(tree, left ? middle : from, left ? upto : middle, path))
			return false;
		if (left)
			upto = middle;
		else
			from = middle;
	}
	turn_path(path);
	return true;
}

/*
 * es_merkle_consistency makes the proof that the tree over the first leaves begins the one
 * over more of them: RFC 6962, 2.1.2.  False if a tile fails.
 */
bool
es_merkle_consistency(EsMerkle *tree, int64 first, int64 second, EsMerklePath *path)
{
	int64		from = 0;
	int64		upto = second;
	bool		whole = true;	/* what is left of the first tree is all of it */

	path->length = 0;
	while (first < upto)
	{
		int64		middle = middle_of(from, upto);
		bool		left = first <= middle;

		if (!add_to_path(tree, left ? middle : from, left ? upto : middle, path))
			return false;
		if (left)
			upto = middle;
		else
		{
			from = middle;
			whole = false;
		}
	}
	if (!whole && !add_to_path(tree, from, upto, path))
		return false;
	turn_path(path);
	return true;
}
