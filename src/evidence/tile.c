/*
 * tile.c
 *		The digests of a seal's tree that are kept, in tiles.
 *
 * The tree is that of RFC 6962 over all leaves, in order of position.  A tile of level 0
 * has 256 leaves, one of level n the roots of 256 tiles of level n - 1 that are full.  What
 * is between is made from these when it is asked for.  Only the last tile of a level is
 * not full, and it only grows: so the tree of an older seal is a part of what is there, and
 * that of all seals takes 32 bytes an event, and a little.
 *
 * A tile of level 0 also has the positions of its leaves, as pairs of numbers: how many
 * positions without a leaf, then how many with one, and so on, after the last leaf of the
 * tile before.  Numbers are written seven bits at a time, lowest first; where the log has
 * no holes that is three bytes a tile.
 *
 * Digests do not compress.  They are stored out of line, as they are.
 *
 * Who writes has the lock of seals (seal.c).  What is read may be anything that somebody
 * has put there, and is not trusted.
 */
#include "evidence/tile.h"

#include "access/detoast.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "storage/bufmgr.h"

#include "base/objects.h"
#include "evidence/varint.h"
#include "table/rows.h"

#define Anum_tiles_tile				1
#define Anum_tiles_after_position	2
#define Anum_tiles_level			3
#define Anum_tiles_positions		4
#define Anum_tiles_digests			5
#define Natts_tiles					5

static EsRelation tiles_table = {"seal_tiles"};
static EsRelation tiles_pkey = {"seal_tiles_pkey",
.index = {.keys = {Anum_tiles_level, Anum_tiles_tile},.columns = "level, tile",.unique = true}};

static const EsColumn tile_columns[Natts_tiles] = {
	{"tile", INT8OID}, {"after_position", INT8OID}, {"level", INT4OID}, {"positions", BYTEAOID}, {"digests", BYTEAOID}
};
const EsShape es_tile_shape = ES_SHAPE(&tiles_table, &tiles_pkey, tile_columns);

/* ---- positions ---- */

/* Writes the positions of a tile. */
static bytea *
pack_positions(const EsTile *tile)
{
	StringInfoData out;
	int64		next = tile->after + 1; /* the position after those that are
										 * written */

	initStringInfo(&out);
	appendStringInfoSpaces(&out, VARHDRSZ);
	for (int i = 0, n; i < tile->count; i += n)
	{
		for (n = 1; i + n < tile->count && tile->positions[i + n] == tile->positions[i] + n; n++)
			;
		es_varint_append(&out, tile->positions[i] - next);
		es_varint_append(&out, n);
		next = tile->positions[i] + n;
	}
	SET_VARSIZE(out.data, out.len);
	return (bytea *) out.data;
}

/* Reads the positions of a tile; false if they are not what its digests need. */
static bool
unpack_positions(const bytea *stored, EsTile *tile)
{
	const uint8 *at = (const uint8 *) VARDATA_ANY(stored);
	const uint8 *end = at + VARSIZE_ANY_EXHDR(stored);
	uint64		next = tile->after + 1; /* never above PG_INT64_MAX */
	int			count = 0;

	while (at < end)
	{
		uint64		skipped;
		uint64		length;

		if (!es_varint_read(&at, end, &skipped) || !es_varint_read(&at, end, &length) ||
			length == 0 || length > tile->count - count ||
			skipped > PG_INT64_MAX - next || length > PG_INT64_MAX - next - skipped)
			return false;
		next += skipped;
		for (uint64 i = 0; i < length; i++)
			tile->positions[count++] = next++;
	}
	return count == tile->count;
}

/* ---- reading ---- */

/* Begins to look for a tile, by a snapshot; NULL: a fresh one. */
static void
begin_tile_look(EsRows *rows, int level, int64 number, Snapshot snapshot)
{
	memset(rows, 0, sizeof(*rows));
	rows->shape = &es_tile_shape;
	rows->mode = AccessShareLock;
	rows->wary = true;
	rows->snapshot = snapshot;
	rows->fresh = snapshot == NULL;
	es_rows_equal(rows, Int32GetDatum(level));
	es_rows_equal(rows, Int64GetDatum(number));
	es_rows_begin(rows);
}

/* Reads the digests of a tile. */
static void
take_digests(Datum value, EsTile *tile)
{
	bytea	   *digests = DatumGetByteaPP(value);

	memcpy(tile->digests, VARDATA_ANY(digests), sizeof(EsDigest) * tile->count);
	if ((Pointer) digests != DatumGetPointer(value))
		pfree(digests);
}

/* Makes a tile of a row, with its digests or without; false if it is not one. */
static bool
take_tile_row(const EsRows *rows, EsTile *tile, bool with_digests)
{
	Datum		digests;
	Size		size;

	if (rows->damaged)
		return false;
	digests = rows->values[Anum_tiles_digests - 1];
	size = toast_raw_datum_size(digests) - VARHDRSZ;
	tile->after = DatumGetInt64(rows->values[Anum_tiles_after_position - 1]);
	tile->count = size / ES_DIGEST_LENGTH;
	if (size % ES_DIGEST_LENGTH != 0 || tile->count <= 0 || tile->count > ES_TILE_SIZE || tile->after < 0 ||
		tile->after == PG_INT64_MAX)
		return false;
	if (with_digests)
		take_digests(digests, tile);
	return tile->level > 0 || unpack_positions(DatumGetByteaPP(rows->values[Anum_tiles_positions - 1]), tile);
}

/* Reads a tile, with its digests or without. */
static EsTileState
read_tile(int level, int64 number, Snapshot snapshot, EsTile *tile, bool with_digests)
{
	EsRows		rows;
	EsTileState state = ES_TILE_MISSING;

	tile->level = level;
	tile->number = number;
	tile->count = 0;
	begin_tile_look(&rows, level, number, snapshot);
	if (es_rows_next(&rows))
		state = take_tile_row(&rows, tile, with_digests) ? ES_TILE_GOOD : ES_TILE_DAMAGED;
	es_rows_end(&rows);
	return state;
}

/* es_tile_read reads a tile as a snapshot sees it; NULL: a fresh one. */
EsTileState
es_tile_read(int level, int64 number, Snapshot snapshot, EsTile *tile)
{
	return read_tile(level, number, snapshot, tile, true);
}

/* es_tile_read_positions reads a tile of level 0 without its digests, so nothing out of line. */
EsTileState
es_tile_read_positions(int64 number, Snapshot snapshot, EsTile *tile)
{
	return read_tile(0, number, snapshot, tile, false);
}

/* es_tile_read_after tells what the leaves of a tile come after; false if it is missing. */
bool
es_tile_read_after(int64 number, Snapshot snapshot, int64 *after)
{
	EsRows		rows;
	bool		found;

	begin_tile_look(&rows, 0, number, snapshot);
	found = es_rows_next(&rows) && !rows.damaged;
	if (found)
		*after = DatumGetInt64(rows.values[Anum_tiles_after_position - 1]);
	es_rows_end(&rows);
	return found;
}

/* Gives a number that no tile can have: the table has not so many rows. */
static int64
least_impossible_tile(void)
{
	Relation	table = es_base_open(&tiles_table, AccessShareLock);
	int64		number = (int64) RelationGetNumberOfBlocks(table) * MaxHeapTuplesPerPage;

	table_close(table, AccessShareLock);
	return number;
}

/*
 * es_tile_count tells how many tiles of level 0 there are, up to the last one.  A number
 * that is forged, and would make them more than the table has room for, does not count.
 */
int64
es_tile_count(Snapshot snapshot)
{
	EsRows		rows = {.shape = &es_tile_shape,.mode = AccessShareLock,.wary = true,.snapshot = snapshot,.backwards = true};
	int64		count = 0;

	es_rows_equal(&rows, Int32GetDatum(0));
	es_rows_between(&rows, -1, least_impossible_tile() - 1);
	es_rows_begin(&rows);
	while (count == 0 && es_rows_next(&rows))
		count = rows.damaged ? 0 : DatumGetInt64(rows.values[Anum_tiles_tile - 1]) + 1;
	es_rows_end(&rows);
	return count;
}

/*
 * es_tile_find gives the number of the last of so many tiles of level 0 whose leaves come
 * after a position before this one: if one has its leaf, it does.
 */
int64
es_tile_find(int64 position, int64 count, Snapshot snapshot)
{
	int64		low = 0;
	int64		high = count;	/* the first one whose leaves come later */

	while (high - low > 1)
	{
		int64		middle = low + (high - low) / 2;
		int64		after;

		if (es_tile_read_after(middle, snapshot, &after) && after >= position)
			high = middle;
		else
			low = middle;
	}
	return low;
}

/* es_tile_find_leaf tells where a tile has the leaf of a position; -1 if nowhere. */
int
es_tile_find_leaf(const EsTile *tile, int64 position)
{
	int			low = 0;
	int			high = tile->count - 1;

	while (low <= high)
	{
		int			middle = (low + high) / 2;

		if (tile->positions[middle] == position)
			return middle;
		if (tile->positions[middle] < position)
			low = middle + 1;
		else
			high = middle - 1;
	}
	return -1;
}

/* es_tile_last_position gives the position of a tile's last leaf. */
int64
es_tile_last_position(const EsTile *tile)
{
	return tile->count > 0 ? tile->positions[tile->count - 1] : tile->after;
}

/* es_tile_any_beyond finds what the first tile of a level from a number on comes after. */
bool
es_tile_any_beyond(int level, int64 number, Snapshot snapshot, int64 *position)
{
	EsRows		rows = {.shape = &es_tile_shape,.mode = AccessShareLock,.wary = true,.snapshot = snapshot};
	bool		found;

	es_rows_equal(&rows, Int32GetDatum(level));
	es_rows_between(&rows, number - 1, PG_INT64_MAX);
	es_rows_begin(&rows);
	found = es_rows_next(&rows) && !rows.damaged;
	if (found)
		*position = DatumGetInt64(rows.values[Anum_tiles_after_position - 1]);
	es_rows_end(&rows);
	return found;
}

/* ---- writing ---- */

/* es_tile_write writes a tile, in the place of the one that was there if it replaces one. */
void
es_tile_write(const EsTile *tile, bool replaces)
{
	Datum		values[Natts_tiles];
	bool		isnull[Natts_tiles] = {false};

	values[Anum_tiles_tile - 1] = Int64GetDatum(tile->number);
	values[Anum_tiles_after_position - 1] = Int64GetDatum(tile->level == 0 ? tile->after : 0);
	values[Anum_tiles_level - 1] = Int32GetDatum(tile->level);
	values[Anum_tiles_positions - 1] = PointerGetDatum(tile->level == 0 ? pack_positions(tile) : es_digest_bytea(NULL, 0));
	values[Anum_tiles_digests - 1] = PointerGetDatum(es_digest_bytea(tile->digests, tile->count));
	if (replaces)
		es_rows_replace(&es_tile_shape, values, isnull);
	else
		es_rows_insert(&es_tile_shape, values, isnull);
}
