/*
 * truncate.c
 *		Hiding the older events of a stream.
 *
 * Its row says from which version on a stream is read.  First what the events have led
 * to is kept (keep.c), then the row is changed, under the stream's short lock and as no
 * other transaction has an uncommitted event of the stream (stream/change.c).  Events and
 * row are read by one database snapshot, so a reader sees the stream as it was before or as
 * it is after.  Nothing is removed, and the version goes on from where it was.
 */
#include "lifecycle/truncate.h"

#include "access/xact.h"
#include "rights/right.h"
#include "utils/builtins.h"

#include "base/call.h"
#include "base/pending.h"
#include "fold/snapshot.h"
#include "lifecycle/keep.h"
#include "log/durable.h"
#include "log/subscriber.h"
#include "stream/stream.h"

PG_FUNCTION_INFO_V1(es_truncate_stream);

/*
 * es_truncate_wanted tells whether there is something to hide of a stream; of one that is
 * deleted all is hidden.
 */
bool
es_truncate_wanted(const EsChange *change, int64 before_version)
{
	return !change->stream.deleted && before_version > change->stream.truncated_before;
}

/* es_truncate_hide hides the events of a stream, which is open to changes, before a version. */
void
es_truncate_hide(EsChange *change, int64 before_version)
{
	change->stream.truncated_before = before_version;
	change->stream.truncated_at = change->tip.recorded_at;
	change->stream.has_hidden = true;
	es_change_write(change);
}

/* Raises 22023, which tells its version, unless a stream has had all events before a version. */
static void
check_versions_exist(const text *name, int64 version, int64 before_version)
{
	if (before_version <= version + 1)
		return;
	es_durable_flush_seen();
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("cannot truncate stream \"%s\" before version %lld", text_to_cstring(name), (long long) before_version),
			errdetail("The stream is at version %lld.", (long long) version));
}

/*
 * Finds out whether there is something to hide of a stream, and hides it if told to; waits
 * for transactions that have appended to the stream.  Who has hidden all that before may have an
 * asynchronous commit: that is on disk before this is said.
 */
static bool
try_truncation(const text *name, int64 before_version, bool hide, EsStream *stream)
{
	EsChange	change;
	bool		open = es_change_begin(&change, name, true) == ES_CHANGE_OPEN;
	int64		version = open ? change.tip.version : 0;
	bool		wanted = open && before_version <= version + 1 && es_truncate_wanted(&change, before_version);

	if (wanted && hide)
		es_truncate_hide(&change, before_version);
	if (open)
		es_change_end(&change);
	check_versions_exist(name, version, before_version);
	if (!wanted)
		es_durable_flush_seen();
	*stream = change.stream;
	stream->name = name;
	return wanted;
}

/*
 * es_truncate_stream(stream, before_version): hides the events of a stream before a
 * version, after leaving a snapshot at the last of them for the reducer that is named like
 * the category and for each that has snapshots of the stream.
 *
 * What is hidden stays so: a lower version than before does nothing.  One past the
 * stream's version hides all; more is 22023, as is a negative one; NULLs are 22004.
 * What handlers raise is VE009; 55000 where a reducer that was changed would lose its
 * states of before; 42501 without 'admin' on the category.  Waits for transactions that
 * have appended to the stream, and for those that drop snapshots; a rollback undoes it.
 */
Datum
es_truncate_stream(PG_FUNCTION_ARGS)
{
	text	   *name = es_call_stream_arg(fcinfo, 0);
	int64		before_version;
	EsStream	stream;

	es_right_require_stream(ES_RIGHT_ADMIN, name);
	es_call_require(fcinfo, 1, "before_version");
	before_version = es_call_not_negative(PG_GETARG_INT64(1), "before_version");
	es_subscriber_prevent_write("es_truncate_stream()");
	PreventCommandIfParallelMode("es_truncate_stream()");
	es_pending_flush();
	if (!try_truncation(name, before_version, false, &stream))
		PG_RETURN_VOID();
	(void) es_keep_states(&stream, before_version - 1, true);
	/* nobody but writers of the stream is waited for once its row is changed */
	(void) es_snapshot_begin_keep(true);
	if (try_truncation(name, before_version, true, &stream))
		es_snapshot_drop_older(stream.id, before_version - 1);
	PG_RETURN_VOID();
}
