/*
 * prove.c
 *		Proofs, for who trusts nothing here but a root that he has kept.
 *
 * Both kinds are those of RFC 6962, and are made of tiles alone, so they cost a few reads
 * however long the log is, and can be made for events that have been removed.
 */
#include "base/base.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/fmgrprotos.h"
#include "utils/snapmgr.h"

#include "base/call.h"
#include "base/error.h"
#include "evidence/digest.h"
#include "evidence/merkle.h"
#include "evidence/seal.h"
#include "evidence/tile.h"
#include "log/subscriber.h"
#include "rights/right.h"
#include "table/rows.h"

PG_FUNCTION_INFO_V1(es_proof);
PG_FUNCTION_INFO_V1(es_prove_consistency);

/* ---- seals ---- */

/* Finds the seal that an argument names by its position; the last one if that is NULL. */
static void
find_seal_arg(FunctionCallInfo fcinfo, int argno, const char *name, Snapshot snapshot, EsSeal *seal)
{
	bool		last = PG_ARGISNULL(argno);
	int64		position = last ? PG_INT64_MAX : es_call_position_arg(fcinfo, argno, name);

	if (!(last ? es_seal_find_last(position, snapshot, seal) : es_seal_find(position, snapshot, seal)))
		ereport(ERROR,
				errcode(ES_ERRCODE_UNDEFINED_OBJECT),
				last ? errmsg("nothing is sealed") : errmsg("there is no seal of position " INT64_FORMAT, position),
				last ? errhint("Call es_seal().") : errhint("View es_seals has the seals."));
	if (seal->damaged)
		ereport(ERROR,
				errcode(ES_ERRCODE_STORE_CORRUPT),
				errmsg("the seal of position " INT64_FORMAT " cannot be read", seal->position),
				errhint("Call es_verify(), which says what was changed."));
}

/* Raises VE008 unless digests could be read. */
static void
require_digests(bool good)
{
	if (!good)
		ereport(ERROR,
				errcode(ES_ERRCODE_STORE_CORRUPT),
				errmsg("a digest that the proof needs is missing or damaged"),
				errhint("Call es_verify(), which says what was changed."));
}

/* Begins what both functions do: asks for the right, and takes a snapshot. */
static Snapshot
begin_proof(void)
{
	es_call_refuse_parallel();
	es_right_require(ES_RIGHT_READ | ES_RIGHT_ADMIN, NULL);
	es_subscriber_refuse_part();
	return es_rows_fresh_snapshot();
}

/* ---- JSON ---- */

/* Appends a member whose value is a digest. */
static void
append_digest(StringInfo out, const char *name, const EsDigest *digest)
{
	appendStringInfo(out, "\"%s\": \"%s\", ", name, es_digest_hex(digest));
}

/* Appends the member "path", and ends the object. */
static Datum
end_with_path(StringInfo out, const EsMerklePath *path)
{
	appendStringInfoString(out, "\"path\": [");
	for (int i = 0; i < path->length; i++)
		appendStringInfo(out, "%s\"%s\"", i > 0 ? ", " : "", es_digest_hex(&path->digests[i]));
	appendStringInfoString(out, "]}");
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(out->data));
}

/* ---- that an event is there ---- */

/* Finds the leaf of a position among the first size ones, and its index; VE004 if there is none. */
static int64
find_leaf(int64 position, int64 size, Snapshot snapshot, EsDigest *leaf)
{
	EsTile	   *tile = palloc(sizeof(EsTile));
	int64		number = es_tile_find(position, (size + ES_TILE_SIZE - 1) / ES_TILE_SIZE, snapshot);
	int			place;

	require_digests(es_tile_read(0, number, snapshot, tile) == ES_TILE_GOOD);
	place = es_tile_find_leaf(tile, position);
	if (place < 0 || number * ES_TILE_SIZE + place >= size)
		ereport(ERROR,
				errcode(ES_ERRCODE_UNDEFINED_OBJECT),
				errmsg("no event was sealed at position " INT64_FORMAT, position));
	*leaf = tile->digests[place];
	pfree(tile);
	return number * ES_TILE_SIZE + place;
}

/* Makes the proof of an event in the tree of a seal. */
static Datum
prove_event(int64 position, const EsSeal *seal, Snapshot snapshot)
{
	EsDigester	digester;
	EsMerklePath path;
	EsDigest	leaf;
	int64		index = find_leaf(position, seal->size, snapshot, &leaf);
	StringInfoData out;

	es_digest_begin(&digester);
	require_digests(es_merkle_inclusion(es_merkle_begin(&digester, snapshot), index, seal->size, &path));
	es_digest_end(&digester);
	initStringInfo(&out);
	appendStringInfo(&out, "{\"index\": " INT64_FORMAT ", \"size\": " INT64_FORMAT ", ", index, seal->size);
	append_digest(&out, "leaf", &leaf);
	append_digest(&out, "root", &seal->root);
	return end_with_path(&out, &path);
}

/*
 * es_proof(position, seal): the audit path of an event to the root of a seal, which is named
 * by its position; seal NULL: the last one.
 *
 * Also of events that have been removed.  NULL position is 22004, a negative one 22023;
 * VE004 if no event was sealed there, or there is no such seal; VE008 if what the proof is
 * made of is damaged.  For 'read' or 'admin' on all categories (42501).  Waits for nobody.
 */
Datum
es_proof(PG_FUNCTION_ARGS)
{
	int64		position = es_call_position_arg(fcinfo, 0, "position");
	Snapshot	snapshot = begin_proof();
	EsSeal		seal;
	Datum		proof;

	find_seal_arg(fcinfo, 1, "seal", snapshot, &seal);
	if (position > seal.position)
		ereport(ERROR,
				errcode(ES_ERRCODE_UNDEFINED_OBJECT),
				errmsg("position " INT64_FORMAT " is not sealed", position),
				errdetail("The seal closes the log up to position " INT64_FORMAT ".", seal.position),
				PG_ARGISNULL(1) ? errhint("Call es_seal().") : 0);
	proof = prove_event(position, &seal, snapshot);
	UnregisterSnapshot(snapshot);
	PG_RETURN_DATUM(proof);
}

/* ---- that a seal's log begins another one's ---- */

/*
 * es_prove_consistency(first_seal, second_seal): the proof that what one seal has closed is
 * the beginning of what a later one has, each named by its position; second_seal NULL: the
 * last one.
 *
 * NULL first_seal is 22004; a negative position, and a second seal before the first, 22023;
 * otherwise like es_proof.
 */
Datum
es_prove_consistency(PG_FUNCTION_ARGS)
{
	Snapshot	snapshot;
	EsSeal		first;
	EsSeal		second;
	EsDigester	digester;
	EsMerklePath path;
	StringInfoData out;

	es_call_require(fcinfo, 0, "first_seal");
	snapshot = begin_proof();
	find_seal_arg(fcinfo, 0, "first_seal", snapshot, &first);
	find_seal_arg(fcinfo, 1, "second_seal", snapshot, &second);
	if (second.position < first.position)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("the second seal, of position " INT64_FORMAT ", comes before the first one", second.position));
	es_digest_begin(&digester);
	require_digests(es_merkle_consistency(es_merkle_begin(&digester, snapshot), first.size, second.size, &path));
	es_digest_end(&digester);
	UnregisterSnapshot(snapshot);
	initStringInfo(&out);
	appendStringInfo(&out, "{\"first_size\": " INT64_FORMAT ", \"second_size\": " INT64_FORMAT ", ", first.size, second.size);
	append_digest(&out, "first_root", &first.root);
	append_digest(&out, "second_root", &second.root);
	PG_RETURN_DATUM(end_with_path(&out, &path));
}
