/*
 * bulk.c
 *		Rows that a statement appends one by one, written many at a time.
 *
 * COPY and INSERT ... SELECT into es_events hand over a row at a time.  Where
 * nothing can see the difference - no RETURNING, at the top level - the rows
 * are kept, in order of arrival, and written by one call of es_append_run: when
 * there are enough of them, at the end of the statement, and before anything
 * else of ours looks at the log.  Each row is still an append by itself: its
 * version an expectation, its event id a retry or not.
 *
 * Memory is that of one batch.  It hangs in the top transaction's context.
 *
 * Subtransactions.  The rows belong to the subtransaction of their statement,
 * its home.  A function that the statement calls may look at the log within a
 * subtransaction of its own, and so write the rows there; should that roll
 * back, they are pending again.  So written rows are kept until the
 * subtransaction that wrote them has ended well.
 *
 * A statement that fails leaves its rows to (sub)transaction abort, which drops
 * them.
 */
#include "append/bulk.h"

#include "access/xact.h"
#include "utils/datum.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/uuid.h"

#include "append/append.h"
#include "append/typing.h"
#include "base/pending.h"

#define MOST_ROWS	1000
#define MOST_BYTES	(16 * 1024 * 1024)

/* The statements that are running, innermost last: the nest level of each one's transaction. */
#define MOST_STATEMENTS		32

static int	statement_levels[MOST_STATEMENTS];
static int	nstatements = 0;

/* The rows of the outermost statement. */
static struct
{
	bool		open;			/* rows are to be kept */
	SubTransactionId home;
	SubTransactionId written_in;	/* all rows are, but may come back; or
									 * invalid */
	MemoryContext context;
	EsAppend	append;			/* targets and events have room for MOST_ROWS */
	HTAB	   *targets;		/* by stream */
	HTAB	   *ids;			/* given ids */
	Size		bytes;
}			rows;

/* Forgets the rows. */
static void
forget_pending_rows(void)
{
	if (rows.context)
		MemoryContextDelete(rows.context);
	rows.context = NULL;
	rows.written_in = InvalidSubTransactionId;
	memset(&rows.append, 0, sizeof(rows.append));
}

/* Forgets the rows and the statement they came from. */
static void
abandon_statement(void)
{
	forget_pending_rows();
	rows.open = false;
}

/* Makes room for rows. */
static void
make_room_for_rows(void)
{
	HASHCTL		ctl = {.keysize = sizeof(pg_uuid_t),.entrysize = sizeof(pg_uuid_t)};

	rows.context = AllocSetContextCreate(TopTransactionContext, "eventstore bulk",
										 ALLOCSET_DEFAULT_SIZES);
	rows.append.each_alone = true;
	rows.append.may = true;		/* each row's inserter was asked, who may be
								 * another than who has them written */
	rows.append.events = MemoryContextAllocZero(rows.context, sizeof(EsNewEvent) * MOST_ROWS);
	rows.append.targets = MemoryContextAllocZero(rows.context, sizeof(EsTarget) * MOST_ROWS);
	rows.targets = es_request_target_map(MOST_ROWS, rows.context);
	ctl.hcxt = rows.context;
	rows.ids = hash_create("eventstore bulk ids", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	rows.bytes = 0;
}

/* Appends what is pending; es_pending_flush_hook. */
static void
write_pending_rows(void)
{
	EsAppend	append = rows.append;

	if (append.count == 0 || rows.written_in != InvalidSubTransactionId)
		return;
	rows.written_in = GetCurrentSubTransactionId();
	es_append_run(&append);
	if (rows.written_in == rows.home)
		forget_pending_rows();
}

/* Makes rows that were written in a subtransaction that rolled back pending again. */
static void
take_rows_back(void)
{
	rows.written_in = InvalidSubTransactionId;
	for (int i = 0; i < rows.append.count; i++)
	{
		EsNewEvent *row = &rows.append.events[i];

		row->stored = false;
		row->judged = 0;
		row->unfit = NULL;
		row->concealed = (Datum) 0;
		row->shredded = false;
	}
}

/* Follows the end of subtransactions. */
static void
follow_rows_at_subxact_end(SubXactEvent event, SubTransactionId subid, SubTransactionId parent, void *arg)
{
	int			level = GetCurrentTransactionNestLevel();

	if (event == SUBXACT_EVENT_COMMIT_SUB && rows.written_in == subid)
	{
		rows.written_in = parent;
		if (parent == rows.home)
			forget_pending_rows();
	}
	else if (event == SUBXACT_EVENT_ABORT_SUB)
	{
		while (nstatements > 0 && statement_levels[nstatements - 1] >= level)
			nstatements--;
		if (rows.open && rows.home == subid)
			abandon_statement();
		else if (rows.written_in == subid)
			take_rows_back();
	}
}

/* Follows the end of transactions. */
static void
drop_rows_at_xact_end(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			if (rows.append.count > 0)
				elog(ERROR, "rows inserted into view \"es_events\" were not appended");
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PREPARE:
			rows.context = NULL;	/* goes with the transaction */
			nstatements = 0;
			abandon_statement();
			break;
		default:
			break;
	}
}

/* Registers the callbacks; called once, from _PG_init. */
void
es_bulk_init(void)
{
	RegisterXactCallback(drop_rows_at_xact_end, NULL);
	RegisterSubXactCallback(follow_rows_at_subxact_end, NULL);
	es_pending_flush_hook = write_pending_rows;
}

/* es_bulk_begin_statement: a statement begins to put rows into es_events. */
void
es_bulk_begin_statement(bool may_buffer)
{
	if (nstatements > 0)
		write_pending_rows();	/* the outer statement's, which come first */
	else
	{
		rows.open = may_buffer;
		rows.home = GetCurrentSubTransactionId();
	}
	if (nstatements >= MOST_STATEMENTS)
		ereport(ERROR,
				errcode(ERRCODE_STATEMENT_TOO_COMPLEX),
				errmsg("too many nested statements insert into view \"es_events\""));
	statement_levels[nstatements++] = GetCurrentTransactionNestLevel();
}

/*
 * es_bulk_end_statement: the innermost such statement ends.  It is under way until its rows are
 * written: an inline projection's handler, or what users have put on the tables, may put rows into
 * the view meanwhile, and these are a nested statement's.
 */
void
es_bulk_end_statement(void)
{
	if (nstatements == 1 && rows.open)
	{
		write_pending_rows();
		abandon_statement();
	}
	if (nstatements > 0)
		nstatements--;
}

/* es_bulk_is_open tells whether rows of the running statement may be kept. */
bool
es_bulk_is_open(void)
{
	return rows.open && nstatements == 1 && rows.home == GetCurrentSubTransactionId();
}

/* Copies a varlena into the rows' memory, and counts it. */
static Datum
keep_row_value(Datum value)
{
	rows.bytes += VARSIZE_ANY(DatumGetPointer(value));
	return datumCopy(value, false, -1);
}

/* es_bulk_add keeps a row; names and values, and the right to append it, have been checked. */
void
es_bulk_add(const text *stream, EsNewEvent *event)
{
	EsNewEvent *row;
	EsTarget   *target;
	MemoryContext old;
	bool		found = false;

	es_typing_judge(event, stream, 0);
	if (event->id_given && rows.context)
		(void) hash_search(rows.ids, &event->id, HASH_FIND, &found);
	if (found || rows.append.count == MOST_ROWS || rows.bytes > MOST_BYTES)
		write_pending_rows();	/* an id that comes again is a retry of what
								 * is written */
	if (rows.context == NULL)
		make_room_for_rows();

	old = MemoryContextSwitchTo(rows.context);
	row = &rows.append.events[rows.append.count];
	*row = *event;
	if (event->unfit)
	{
		row->judged = 0;		/* what is wrong is not kept */
		row->unfit = NULL;
	}
	row->type = (const text *) DatumGetPointer(keep_row_value(PointerGetDatum(event->type)));
	row->data = keep_row_value(event->data);
	row->metadata = keep_row_value(event->metadata);
	target = es_request_target(&rows.append, rows.targets, stream, &found);
	if (!found)
	{
		/* the map's key must be our copy, too */
		(void) hash_search(rows.targets, &stream, HASH_REMOVE, NULL);
		rows.append.ntargets--;
		stream = (const text *) DatumGetPointer(keep_row_value(PointerGetDatum(stream)));
		target = es_request_target(&rows.append, rows.targets, stream, &found);
	}
	es_request_add_event(target, row);
	if (event->id_given)
		(void) hash_search(rows.ids, &event->id, HASH_ENTER, NULL);
	rows.append.count++;
	MemoryContextSwitchTo(old);
}
