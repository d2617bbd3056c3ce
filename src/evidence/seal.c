/*
 * seal.c
 *		Seals: the log so far, closed under a root.
 *
 * A seal says: up to this position, below which all was final, the log has so many events,
 * and this is the root of the tree over them.  Its chain is the digest of the seal itself
 * and of the chain of the one before, so it pins when each was made.
 *
 * Who seals has the lock of seals to the end of the transaction, so that seals come one
 * after the other.  Scavenging does not wait for it, though what it removes may just be
 * sealed: it notes what goes (scavenged.c) if there is a seal, or somebody has the lock.
 * Else it takes that lock itself for a batch, and who seals, and takes a snapshot after it
 * has it, finds those events gone.
 */
#include "evidence/seal.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/objects.h"
#include "json/text.h"

#define Anum_seals_position		1
#define Anum_seals_size			2
#define Anum_seals_sealed_at	3
#define Anum_seals_root			4
#define Anum_seals_chain		5
#define Natts_seals				5

#define CHAIN_PREFIX	2		/* of what is digested; leaves and nodes have
								 * 0 and 1 */

static EsRelation seals_table = {"seals"};
static EsRelation seals_pkey = {"seals_pkey",
.index = {.keys = {Anum_seals_position},.columns = "position",.unique = true}};

static const EsColumn seal_columns[Natts_seals] = {
	{"position", INT8OID}, {"size", INT8OID}, {"sealed_at", TIMESTAMPTZOID}, {"root", BYTEAOID}, {"chain", BYTEAOID}
};
const EsShape es_seal_shape = ES_SHAPE(&seals_table, &seals_pkey, seal_columns);

/* ---- reading ---- */

/* Reads a stored digest; false if it is none. */
static bool
take_digest(Datum value, EsDigest *digest)
{
	bytea	   *stored = DatumGetByteaPP(value);
	bool		good = VARSIZE_ANY_EXHDR(stored) == ES_DIGEST_LENGTH;

	memset(digest, 0, sizeof(EsDigest));
	if (good)
		memcpy(digest, VARDATA_ANY(stored), ES_DIGEST_LENGTH);
	return good;
}

/*
 * es_seal_begin_list begins to look at the seals of positions after one and up to another,
 * in order; NULL: as a fresh snapshot sees them.
 */
void
es_seal_begin_list(EsRows *rows, int64 after, int64 upto, Snapshot snapshot)
{
	memset(rows, 0, sizeof(*rows));
	rows->shape = &es_seal_shape;
	rows->mode = AccessShareLock;
	rows->wary = true;
	rows->snapshot = snapshot;
	rows->fresh = snapshot == NULL;
	es_rows_between(rows, after, upto);
	es_rows_begin(rows);
}

/* es_seal_take makes a seal of the row that such a look has come to. */
void
es_seal_take(const EsRows *rows, EsSeal *seal)
{
	const Datum *values = rows->values;
	bool		root;
	bool		chain;

	memset(seal, 0, sizeof(*seal));
	seal->damaged = rows->damaged;
	if (rows->damaged)
		return;
	root = take_digest(values[Anum_seals_root - 1], &seal->root);
	chain = take_digest(values[Anum_seals_chain - 1], &seal->chain);
	seal->position = DatumGetInt64(values[Anum_seals_position - 1]);
	seal->size = DatumGetInt64(values[Anum_seals_size - 1]);
	seal->sealed_at = DatumGetTimestampTz(values[Anum_seals_sealed_at - 1]);
	seal->damaged = !root || !chain || seal->size <= 0;
}

/* Takes the first seal of a list that has begun, and ends it; false if there is none. */
static bool
take_first_seal(EsRows *rows, EsSeal *seal)
{
	bool		found = es_rows_next(rows);

	if (found)
		es_seal_take(rows, seal);
	es_rows_end(rows);
	return found;
}

/* es_seal_find finds the seal of a position; false if there is none. */
bool
es_seal_find(int64 position, Snapshot snapshot, EsSeal *seal)
{
	EsRows		rows;

	es_seal_begin_list(&rows, position - 1, position, snapshot);
	return take_first_seal(&rows, seal);
}

/* es_seal_find_last finds the last seal up to a position; false if there is none. */
bool
es_seal_find_last(int64 upto, Snapshot snapshot, EsSeal *seal)
{
	EsRows		rows = {.shape = &es_seal_shape,.mode = AccessShareLock,.wary = true,.snapshot = snapshot,.backwards = true};

	es_rows_between(&rows, PG_INT64_MIN, upto);
	es_rows_begin(&rows);
	return take_first_seal(&rows, seal);
}

/* Tells up to where the log is sealed now; 0 if nowhere. */
static int64
get_last_sealed_position(void)
{
	Snapshot	snapshot = es_rows_fresh_snapshot();
	EsSeal		seal = {0};

	(void) es_seal_find_last(PG_INT64_MAX, snapshot, &seal);
	UnregisterSnapshot(snapshot);
	return seal.position;
}

/*
 * es_seal_compute_chain makes the chain of a seal, before which another one, or none, was
 * made: the digest of a byte 2 and of
 *
 *		jsonb_build_array(position, size, root, sealed_at, chain of the one before)::text
 *
 * in hexadecimal digits and UTC; the first one has null at the end.
 */
void
es_seal_compute_chain(EsDigester *digester, const EsSeal *seal, const EsSeal *before, EsDigest *chain)
{
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfoChar(&text, CHAIN_PREFIX);
	appendStringInfo(&text, "[" INT64_FORMAT ", " INT64_FORMAT ", \"%s\", ", seal->position, seal->size,
					 es_digest_hex(&seal->root));
	es_jsontext_quoted_time(&text, seal->sealed_at);
	if (before)
		appendStringInfo(&text, ", \"%s\"]", es_digest_hex(&before->chain));
	else
		appendStringInfoString(&text, ", null]");
	es_digest_bytes(digester, text.data, text.len, chain);
	pfree(text.data);
}

/* ---- writing ---- */

/* es_seal_lock takes the lock of seals, to the end of the transaction; false if it has not. */
bool
es_seal_lock(bool wait)
{
	return es_base_lock_row(&seals_table, 0, 0, wait);
}

/*
 * es_seal_minds_removal tells whether what this transaction removes of the log has to be
 * noted.  If not, nobody seals until it has ended.
 */
bool
es_seal_minds_removal(void)
{
	return get_last_sealed_position() > 0 || !es_seal_lock(false) || get_last_sealed_position() > 0;
}

/*
 * es_seal_write adds a seal.  Whoever sees it may give it to others, who keep it for good; so it is
 * on disk before anybody does, whatever synchronous_commit is.
 */
void
es_seal_write(const EsSeal *seal)
{
	Datum		values[Natts_seals];
	bool		isnull[Natts_seals] = {false};

	ForceSyncCommit();
	values[Anum_seals_position - 1] = Int64GetDatum(seal->position);
	values[Anum_seals_size - 1] = Int64GetDatum(seal->size);
	values[Anum_seals_sealed_at - 1] = TimestampTzGetDatum(seal->sealed_at);
	values[Anum_seals_root - 1] = PointerGetDatum(es_digest_bytea(&seal->root, 1));
	values[Anum_seals_chain - 1] = PointerGetDatum(es_digest_bytea(&seal->chain, 1));
	es_rows_insert(&es_seal_shape, values, isnull);
}
