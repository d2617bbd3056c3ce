/*
 * rotate.c
 *		es_rotate_master_key: all keys wrapped by another master key.
 *
 * The table is locked as for a change of definitions: who reads, and appends for subjects that
 * have a key, goes on; who would make a key waits.  Until the end other sessions see the rows as
 * they were and use the former master key; afterwards they find rows with another fingerprint
 * and run the command again (masterkey.c).  A crash leaves either; but the former key may be
 * destroyed as soon as this has returned, so then it is on disk, whatever synchronous_commit is.
 */
#include "base/base.h"

#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "base/call.h"
#include "base/error.h"
#include "base/objects.h"
#include "base/uuid7.h"
#include "log/subscriber.h"
#include "rights/right.h"
#include "secret/arena.h"
#include "secret/keycache.h"
#include "secret/masterkey.h"
#include "secret/subject.h"
#include "secret/wrap.h"
#include "shared/headway.h"
#include "table/rows.h"

PG_FUNCTION_INFO_V1(es_rotate_master_key);

/* From one master key to another. */
typedef struct Rotation
{
	EsMasterKey from;
	EsMasterKey to;
} Rotation;

/* Raises an error for a key that neither of the master keys unwraps. */
ES_NORETURN static void
report_foreign_key(const EsWrappedKey *key, bool foreign)
{
	ereport(ERROR,
			errcode(foreign ? ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE : ES_ERRCODE_STORE_CORRUPT),
			foreign ? errmsg("keys of protected fields are wrapped by another master key than the one given") :
			errmsg("key of protected fields is not as it was stored"),
			errdetail("It is the one with key_id %s in table eventstore.subjects.", es_uuid7_show(&key->id)),
			foreign ? errhint("Argument \"old_key_command\" must be a command that prints the former master key.") : 0);
}

/* Wraps the key of a row anew. */
static void
rewrap_row(EsRows *rows, const Rotation *rotation)
{
	const Datum *v = rows->values;
	uint8	   *plain = es_arena_place(ES_ARENA_SCRATCH);
	int64		fingerprint = DatumGetInt64(v[Anum_subjects_fingerprint - 1]);
	bool		is_new = fingerprint == rotation->to.fingerprint;
	EsWrappedKey key = {.id = *DatumGetUUIDP(v[Anum_subjects_key_id - 1]),
		.kind = (EsSubjectKind) DatumGetInt32(v[Anum_subjects_kind - 1]),
		.subject = DatumGetTextPP(v[Anum_subjects_subject - 1]),
	.wrapped = DatumGetByteaPP(v[Anum_subjects_wrapped - 1])};
	Datum		values[Natts_subjects];
	bool		isnull[Natts_subjects];

	if (!is_new && fingerprint != rotation->from.fingerprint)
		report_foreign_key(&key, true);
	if (!es_wrap_open(&key, plain, is_new ? rotation->to.wrapping : rotation->from.wrapping))
		report_foreign_key(&key, false);
	if (is_new)
		return;
	memcpy(values, v, sizeof(values));
	memcpy(isnull, rows->isnull, sizeof(isnull));
	values[Anum_subjects_fingerprint - 1] = Int64GetDatum(rotation->to.fingerprint);
	values[Anum_subjects_wrapped - 1] = PointerGetDatum(es_wrap_key(&key, plain, rotation->to.wrapping));
	es_rows_update(rows, values, isnull);
}

/* Wraps all keys anew. */
static void
rewrap_all(const Rotation *rotation)
{
	EsRows		rows = {.shape = &es_subject_shape,.mode = RowExclusiveLock};
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "eventstore rotation", ALLOCSET_SMALL_SIZES);
	MemoryContext old;

	es_headway_enter(ES_PHASE_KEYS, -1);
	es_rows_begin(&rows);
	while (es_rows_next(&rows))
	{
		CHECK_FOR_INTERRUPTS();
		es_headway_add(1);
		if (rows.isnull[Anum_subjects_wrapped - 1])
			continue;
		old = MemoryContextSwitchTo(context);
		rewrap_row(&rows, rotation);
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
	}
	es_rows_end(&rows);
	MemoryContextDelete(context);
}

/*
 * es_rotate_master_key(old_key_command): wraps all keys, which the master key that a command
 * prints has wrapped, by the one that eventstore.master_key_command prints now.
 *
 * For who has 'admin' on '*' and may run programs on the server, superusers and members of
 * pg_execute_server_program; else 42501.  NULL is 22004.  55000 if either key is not to be
 * had, or a key is wrapped by neither; VE008 for one that is not as it was wrapped.  Waits for
 * transactions that have made a key, and keeps others from making one until its own ends, which
 * is a synchronous commit; a rollback undoes it.
 */
Datum
es_rotate_master_key(PG_FUNCTION_ARGS)
{
	Rotation	rotation;

	es_right_require(ES_RIGHT_ADMIN, NULL);
	if (!has_privs_of_role(GetUserId(), ROLE_PG_EXECUTE_SERVER_PROGRAM))
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("permission denied to run a command that prints the master key"),
				errdetail("It takes the privileges of role \"%s\".", "pg_execute_server_program"));
	es_call_require(fcinfo, 0, "old_key_command");
	es_headway_begin(ES_COMMAND_ROTATE);
	es_headway_enter(ES_PHASE_WAITING, -1);
	es_subscriber_begin_change(&es_keycache_table, "es_rotate_master_key()");
	CommandCounterIncrement();
	PG_TRY();
	{
		rotation.from = es_masterkey_of_command(text_to_cstring(PG_GETARG_TEXT_PP(0)));
		rotation.to = *es_masterkey_renew();
		rewrap_all(&rotation);
	}
	PG_FINALLY();
	{
		es_arena_wipe_place(ES_ARENA_SCRATCH, 1);
		es_arena_wipe_place(ES_ARENA_OTHER, 1);
	}
	PG_END_TRY();
	es_base_announce(&es_keycache_table);
	CommandCounterIncrement();
	ForceSyncCommit();
	es_headway_end();
	PG_RETURN_VOID();
}
