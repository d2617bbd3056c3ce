/*
 * shred.c
 *		es_shred: the keys of a subject destroyed.
 *
 * The rows of the subject stay, without their keys, and say that there is none and that there
 * must never be one again.  Their former versions are in the table until it is vacuumed, in the
 * WAL, and in backups: wrapped by the master key that there was then.
 *
 * Nobody looks again whether a subject is shredded that was said to be.  So that is on disk before
 * any session sees it, whatever synchronous_commit is.
 */
#include "base/base.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/call.h"
#include "base/error.h"
#include "base/names.h"
#include "base/objects.h"
#include "log/subscriber.h"
#include "rights/right.h"
#include "secret/bundle.h"
#include "secret/dependent.h"
#include "secret/keycache.h"
#include "secret/protection.h"
#include "secret/subject.h"
#include "secret/wrap.h"
#include "shared/headway.h"
#include "table/columns.h"
#include "table/rows.h"

PG_FUNCTION_INFO_V1(es_shred);

/* Takes the keys of a subject out of its rows, and notes them; how many rows there are. */
static int
destroy_keys(EsSubjectKind kind, const text *name, EsKeyring *destroyed)
{
	EsRows		rows = {.mode = RowExclusiveLock};
	int			count = 0;

	es_subject_begin_rows(&rows, name);
	while (es_subject_next_row(&rows, kind))
	{
		Datum		values[Natts_subjects];
		bool		isnull[Natts_subjects];

		CHECK_FOR_INTERRUPTS();
		es_headway_add(1);
		count++;
		if (rows.isnull[Anum_subjects_wrapped - 1])
			continue;
		es_bundle_add_key(destroyed, DatumGetUUIDP(rows.values[Anum_subjects_key_id - 1]));
		memcpy(values, rows.values, sizeof(values));
		memcpy(isnull, rows.isnull, sizeof(isnull));
		es_columns_put_time(values, isnull, Anum_subjects_shredded_at, GetCurrentTimestamp());
		es_columns_put(values, isnull, Anum_subjects_wrapped, NULL);
		es_rows_update(&rows, values, isnull);
	}
	es_rows_end(&rows);
	return count;
}

/*
 * es_shred(subject): destroys the keys of a subject, so that its protected fields, and
 * states made of them, are null for ever.  Once more does nothing.
 *
 * Projections that have lost states are begun anew.  For who has 'admin' on '*', else
 * 42501.  NULL is 22004, a subject that has no key VE004.
 * 55000 if subjects are stored as keyed hashes and the master key is not to be had.  Waits
 * for transactions that have made a key, and keeps others from making one until its own
 * ends.  Takes effect in other sessions as it commits, which it does synchronously; a rollback
 * undoes it.
 */
Datum
es_shred(PG_FUNCTION_ARGS)
{
	EsKeyring	destroyed = {0};
	text	   *subject;
	int			count;

	es_right_require(ES_RIGHT_ADMIN, NULL);
	es_call_require(fcinfo, 0, "subject");
	subject = PG_GETARG_TEXT_PP(0);
	es_subscriber_prevent_write("es_shred()");
	es_headway_begin(ES_COMMAND_SHRED);
	es_headway_enter(ES_PHASE_WAITING, -1);
	es_dependent_hooks.begin_shred();
	es_subscriber_begin_change(&es_keycache_table, "es_shred()");
	CommandCounterIncrement();
	es_headway_enter(ES_PHASE_KEYS, -1);
	count = destroy_keys(ES_SUBJECT_PLAIN, subject, &destroyed);
	if (es_protection_any() && es_protection_state.any_hashed)
		count += destroy_keys(ES_SUBJECT_HASHED, es_subject_hash(subject), &destroyed);
	if (count == 0)
		ereport(ERROR,
				errcode(ES_ERRCODE_UNDEFINED_OBJECT),
				errmsg("there is no subject \"%s\"", es_names_show_text(subject)),
				errdetail("No event with protected fields was ever appended for it."));
	es_base_announce(&es_keycache_table);
	CommandCounterIncrement();
	es_dependent_hooks.end_shred(&destroyed);
	ForceSyncCommit();
	es_headway_end();
	PG_RETURN_VOID();
}
