/*
 * retry.c
 *		Idempotent retry: recognising a call whose events are stored already.
 *
 * Ids that callers give are unique within their stream, and found through a
 * partial index that appends without ids never touch.  A call is a retry of
 * what is stored when all its ids are, as one run, in its order, with its
 * contents, at the place that its expectation names.  Ids that are stored in
 * any other way are a conflict.
 *
 * Called under the stream's short lock, with the stream's tip known to be
 * committed or this transaction's; so what is found does not change.
 */
#include "retry.h"

#include "access/relscan.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"
#include "utils/uuid.h"

/* The text of a UUID. */
static char *
uuid_text(const pg_uuid_t *id)
{
	return DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(id)));
}

/* Compares two ids for qsort and hash. */
static int
compare_ids(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(pg_uuid_t));
}

/* es_retry_check_distinct raises 22023 if a call gives one id twice. */
void
es_retry_check_distinct(const EsAppend *append)
{
	pg_uuid_t  *ids;
	int			n = 0;

	if (append->count < 2)
		return;
	ids = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(pg_uuid_t) * append->count);
	for (int i = 0; i < append->count; i++)
		if (append->events[i].id_given)
			ids[n++] = append->events[i].id;
	qsort(ids, n, sizeof(pg_uuid_t), compare_ids);
	for (int i = 1; i < n; i++)
		if (compare_ids(&ids[i - 1], &ids[i]) == 0)
			ereport(ERROR,
					errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("event id %s is given twice", uuid_text(&ids[i])));
	pfree(ids);
}

/* Tells whether a stored event has the contents of a given one. */
static bool
same_contents(const EsNewEvent *given, const EsEvent *stored)
{
	text	   *type = DatumGetTextPP(stored->type);

	return VARSIZE_ANY_EXHDR(type) == VARSIZE_ANY_EXHDR(given->type) &&
		memcmp(VARDATA_ANY(type), VARDATA_ANY(given->type), VARSIZE_ANY_EXHDR(type)) == 0 &&
		compareJsonbContainers(&DatumGetJsonbP(stored->data)->root,
							   &DatumGetJsonbP(given->data)->root) == 0 &&
		compareJsonbContainers(&DatumGetJsonbP(stored->metadata)->root,
							   &DatumGetJsonbP(given->metadata)->root) == 0;
}

/*
 * Compares the stored events from a version on with the given ones.  Returns
 * the index of the first that differs, or the count; notes the last one.
 */
static int
compare_run(EsRetry *retry, const EsAppend *append, const EsStream *stream, int64 from_version)
{
	Snapshot	snapshot = es_segment_fresh_snapshot();
	int			same = 0;
	bool		differs = false;

	for (int64 n = stream->first_segment; !differs && same < append->count && n <= stream->last_segment; n++)
	{
		EsSegmentScan scan = {.which = ES_INDEX_STREAM,.snapshot = snapshot,.own_slot = true,.nkeys = 2};

		ScanKeyInit(&scan.keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(stream->id));
		ScanKeyInit(&scan.keys[1], 2, BTGreaterEqualStrategyNumber, F_INT8GE,
					Int64GetDatum(from_version + same));
		if (!es_segment_scan_begin(&scan, n))
			continue;
		while (!differs && same < append->count &&
			   index_getnext_slot(scan.scan, ForwardScanDirection, scan.slot))
		{
			EsEvent		stored;

			es_base_deform_event(scan.slot, &stored);
			differs = !same_contents(&append->events[same], &stored);
			if (differs)
				break;
			same++;
			retry->last.version = stored.version;
			retry->last.recorded_at = stored.recorded_at;
			retry->position = stored.position;
		}
		es_segment_scan_end(&scan);
	}
	UnregisterSnapshot(snapshot);
	return same;
}

/* Judges a call of which some ids are stored; versions[i] is that of the i-th, 0 if it is not. */
static void
judge(EsRetry *retry, const EsAppend *append, const EsStream *stream, const int64 *versions)
{
	int			differs;

	retry->result = ES_RETRY_CONFLICT;
	for (int i = 0; i < append->count; i++)
	{
		if (versions[i] != 0 && versions[i] == versions[0] + i)
			continue;
		retry->detail = versions[i] == 0 ?
			psprintf("Some of the event ids are stored already, but not that of event %d.", i + 1) :
			psprintf("Event id %s is stored already, as version " INT64_FORMAT ", not in this order.",
					 uuid_text(&append->events[i].id), versions[i]);
		return;
	}
	if (append->expectation == ES_EXPECT_VERSION && versions[0] != append->expected_version + 1)
	{
		retry->detail = psprintf("The events are stored already, but from version " INT64_FORMAT " on.",
								 versions[0]);
		return;
	}
	differs = compare_run(retry, append, stream, versions[0]);
	if (differs < append->count)
	{
		retry->detail = psprintf("Event id %s is stored already, as version " INT64_FORMAT ", with other type, data or metadata.",
								 uuid_text(&append->events[differs].id), versions[differs]);
		return;
	}
	retry->result = ES_RETRY_STORED;
}

/* es_retry_check tells whether the events of a call are stored in an existing stream. */
void
es_retry_check(EsRetry *retry, const EsAppend *append, const EsStream *stream)
{
	int64	   *versions = NULL;
	bool		some_stored = false;

	retry->result = ES_RETRY_NEW;
	for (int i = 0; i < append->count; i++)
	{
		if (!append->events[i].id_given)
			continue;
		if (versions == NULL)
		{
			Size		size = sizeof(int64) * append->count;

			versions = MemoryContextAllocHuge(CurrentMemoryContext, size);
			memset(versions, 0, size);
		}
		versions[i] = es_stream_find_event_id(stream, &append->events[i].id, &retry->wait_for);
		if (TransactionIdIsValid(retry->wait_for))
		{
			retry->result = ES_RETRY_WAIT;
			return;
		}
		some_stored = some_stored || versions[i] != 0;
	}
	if (some_stored)
		judge(retry, append, stream, versions);
}
