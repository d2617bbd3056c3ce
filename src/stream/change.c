/*
 * change.c
 *		Changing the row of a stream by itself, without an append.
 *
 * Whoever changes a stream's row does as an append does: under the short lock it looks
 * whether another transaction has an uncommitted event of the stream, or has changed its
 * row, and if so gives the lock back and waits for that one.  An append that is not at its
 * end may come back to the row without looking again, and what it wrote keeps all others
 * off until then.  After that the changed row, not committed, keeps appends off.
 */
#include "stream/change.h"

#include "access/transam.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "base/error.h"

/*
 * Looks at the stream, under its short lock; *in_progress becomes the transaction in the
 * way, if there is one.
 */
static EsChangeState
look_at_changed_stream(EsChange *change, const text *name, TransactionId *in_progress)
{
	*in_progress = InvalidTransactionId;
	change->tips = es_tipcache_begin_call();
	change->known = es_tipcache_find(name);
	if (change->known)
	{
		change->stream = change->known->stream;
		change->stream.name = name;
		change->tip = change->known->tip;
		return ES_CHANGE_OPEN;
	}
	if (!es_stream_find_newest(name, &change->stream, in_progress) && !TransactionIdIsValid(*in_progress))
		return ES_CHANGE_MISSING;
	if (!TransactionIdIsValid(*in_progress) &&
		!es_stream_find_tip(&change->stream, NULL, DT_NOBEGIN, &change->tip, in_progress))
		ereport(ERROR,
				errcode(ES_ERRCODE_STORE_CORRUPT),
				errmsg("stream \"%s\" has no event in its last segment", text_to_cstring(name)));
	return TransactionIdIsValid(*in_progress) ? ES_CHANGE_BUSY : ES_CHANGE_OPEN;
}

/*
 * es_change_begin finds a stream and has its short lock, if the stream is open to changes,
 * until es_change_end.  Told to wait it waits for transactions in the way.
 */
EsChangeState
es_change_begin(EsChange *change, const text *name, bool wait)
{
	TransactionId in_progress;
	EsChangeState state;

	es_streamlock_lock_table();
	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		memset(change, 0, sizeof(*change));
		es_streamlock_add(&change->locks, name, 0);
		es_streamlock_acquire(&change->locks);
		state = look_at_changed_stream(change, name, &in_progress);
		if (state != ES_CHANGE_OPEN)
			es_streamlock_release(&change->locks);
		if (state != ES_CHANGE_BUSY || !wait)
			return state;
		es_streamlock_await(in_progress);
	}
}

/*
 * es_change_write writes what the caller has changed in change->stream.  A constraint of a
 * user's may run then, and all tips be forgotten as it catches an error.
 */
void
es_change_write(EsChange *change)
{
	es_stream_update(&change->stream);
	if (es_tipcache_generation() != change->tips)
		change->known = es_tipcache_find(change->stream.name);
	if (change->known)
		es_tipcache_keep(change->known, &change->stream, &change->tip);
}

/* es_change_end gives the stream's short lock back. */
void
es_change_end(EsChange *change)
{
	es_streamlock_release(&change->locks);
}
