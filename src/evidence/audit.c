/*
 * audit.c
 *		Seals, and the tree, held against each other.
 *
 * What is above the leaves is made anew of what is below it, level by level, and so is each
 * seal's root.  No event is read for that (inspect.c).
 */
#include "evidence/audit.h"

#include "miscadmin.h"

#include "evidence/merkle.h"
#include "evidence/seal.h"
#include "evidence/tile.h"
#include "table/rows.h"

/* ---- the tree ---- */

/* Says that a tile of a level above that of the leaves is wrong, at the first position below it. */
static void
note_bad_tile(const EsAudit *audit, int level, int64 number, EsFlaw flaw)
{
	int64		after = 0;
	int64		upto = audit->to;

	(void) es_tile_read_after(number << (ES_TILE_HEIGHT * level), audit->snapshot, &after);
	(void) es_tile_read_after((number + 1) << (ES_TILE_HEIGHT * level), audit->snapshot, &upto);
	audit->take(Max(after + 1, audit->from), flaw, flaw == ES_FLAW_TILE ? upto : level, audit->arg);
}

/* Compares digests of a level above 1 with the tiles that they are the roots of. */
static void
audit_digests(const EsAudit *audit, const EsTile *tile, int count)
{
	EsTile	   *below = palloc(sizeof(EsTile));

	for (int i = 0; i < count; i++)
	{
		int64		number = tile->number * ES_TILE_SIZE + i;
		EsDigest	root;

		CHECK_FOR_INTERRUPTS();
		/* one that cannot be read is said to be so in its turn */
		if (es_tile_read(tile->level - 1, number, audit->snapshot, below) != ES_TILE_GOOD ||
			below->count < ES_TILE_SIZE)
			continue;
		es_merkle_tile_root(audit->digester, below->digests, &root);
		if (!es_digest_same(&root, &tile->digests[i]))
			note_bad_tile(audit, tile->level - 1, number, ES_FLAW_TILE);
	}
	pfree(below);
}

/* es_audit_tiles looks at the tiles above those of leaves. */
void
es_audit_tiles(const EsAudit *audit)
{
	EsTile	   *tile = palloc(sizeof(EsTile));

	for (int level = 1; level < ES_TILE_LEVELS; level++)
	{
		int			height = ES_TILE_HEIGHT * level;
		int64		digests = audit->size >> height;

		for (int64 number = audit->first_tile >> height;
			 number <= audit->last_tile >> height && number * ES_TILE_SIZE < digests; number++)
		{
			int			expected = Min(ES_TILE_SIZE, digests - number * ES_TILE_SIZE);

			CHECK_FOR_INTERRUPTS();
			if (es_tile_read(level, number, audit->snapshot, tile) != ES_TILE_GOOD || tile->count < expected)
				note_bad_tile(audit, level, number, ES_FLAW_TILE_LOST);
			else if (level > 1)
				audit_digests(audit, tile, expected);
		}
	}
	pfree(tile);
}

/* ---- seals ---- */

/* What a seal is held against. */
typedef struct SealCheck
{
	const EsAudit *audit;
	EsMerkle   *tree;
	EsTile	   *tile;			/* the one of leaves that was read last */
	EsTileState state;
	bool		has_before;
	EsSeal		before;
} SealCheck;

/* Gives the position of a leaf; missing if there is none. */
static int64
find_leaf_position(SealCheck *check, int64 leaf, int64 missing)
{
	int64		number = leaf / ES_TILE_SIZE;

	if (check->tile->number != number)
		check->state = es_tile_read_positions(number, check->audit->snapshot, check->tile);
	if (check->state != ES_TILE_GOOD || leaf % ES_TILE_SIZE >= check->tile->count)
		return missing;
	return check->tile->positions[leaf % ES_TILE_SIZE];
}

/* Tells whether a seal's position is between its last leaf and the one after. */
static bool
bounds_its_leaves(SealCheck *check, const EsSeal *seal)
{
	return find_leaf_position(check, seal->size - 1, seal->position) <= seal->position &&
		find_leaf_position(check, seal->size, PG_INT64_MAX) > seal->position;
}

/* Says what is wrong with a seal. */
static void
audit_seal(SealCheck *check, const EsSeal *seal)
{
	const EsAudit *audit = check->audit;
	EsDigest	made;

	if (seal->damaged)
	{
		audit->take(seal->position, ES_FLAW_SEAL_LOST, 0, audit->arg);
		return;
	}
	if (seal->size > audit->size || !es_merkle_root(check->tree, seal->size, &made) ||
		!es_digest_same(&made, &seal->root))
		audit->take(seal->position, ES_FLAW_SEAL, 0, audit->arg);
	if (!bounds_its_leaves(check, seal))
		audit->take(seal->position, ES_FLAW_SEAL_BOUND, 0, audit->arg);
	es_seal_compute_chain(audit->digester, seal, check->has_before ? &check->before : NULL, &made);
	if (!es_digest_same(&made, &seal->chain))
		audit->take(seal->position, ES_FLAW_CHAIN, 0, audit->arg);
}

/* es_audit_seals looks at the seals. */
void
es_audit_seals(const EsAudit *audit)
{
	SealCheck	check = {.audit = audit,.tree = es_merkle_begin(audit->digester, audit->snapshot)};
	EsRows		rows;

	check.tile = palloc(sizeof(EsTile));
	check.tile->number = -1;
	check.has_before = es_seal_find_last(audit->from - 1, audit->snapshot, &check.before);
	es_seal_begin_list(&rows, audit->from - 1, audit->to, audit->snapshot);
	while (es_rows_next(&rows))
	{
		EsSeal		seal;

		CHECK_FOR_INTERRUPTS();
		es_seal_take(&rows, &seal);
		audit_seal(&check, &seal);
		check.before = seal;
		check.has_before = true;
	}
	es_rows_end(&rows);
	pfree(check.tile);
}
