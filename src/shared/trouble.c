/*
 * trouble.c
 *		What fails in the background, said once.
 *
 * Work in the background is tried again when it has failed, for as long as it takes.  What
 * is in its way is said in the server's log once, with what to do, and not again before it
 * is another thing, or the work has gone well in between; that is said, too, with how often
 * it had failed.  es_metrics() and es_doctor() tell what fails now.
 *
 * With the library preloaded, what fails is kept in shared memory, by database and task, so
 * it does not matter which process has failed.  Under its lock; nobody waits for it while it
 * is well.  There is room for MOST_TROUBLES; of further ones each failure is said, and so it
 * is where nothing is preloaded: then there is no worker, and what there is in the
 * background comes and goes.
 *
 * A crash forgets all of it: then it is said once more.
 */
#include "shared/trouble.h"

#include "access/xact.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "utils/timestamp.h"

#include "shared/counter.h"
#include "shared/memory.h"

#define MOST_TROUBLES	256

/* A task of a database that has failed; under the lock. */
typedef struct EsTroubleEntry
{
	Oid			database;		/* InvalidOid: the place is free */
	EsTask		task;
	EsTrouble	trouble;
} EsTroubleEntry;

typedef struct EsTroubleShared
{
	EsTroubleEntry entries[MOST_TROUBLES];
} EsTroubleShared;

const char *const es_trouble_names[ES_NTASKS] = {
	[ES_TASK_SETTLING] = "settling",
	[ES_TASK_PROJECTIONS] = "projections",
	[ES_TASK_RETENTION] = "retention",
	[ES_TASK_SEALING] = "sealing",
	[ES_TASK_SCAVENGING] = "scavenging",
	[ES_TASK_SEGMENTS] = "segments",
	[ES_TASK_FREEZING] = "freezing",
	[ES_TASK_INDEXING] = "indexing",
	[ES_TASK_KEYS] = "keys"
};

StaticAssertDecl(ES_NCOUNTERS - ES_COUNT_FAILURES == ES_NTASKS, "a counter for each task");

static EsTroubleShared *shared = NULL;

/* Tasks that are well, for all that this process has found: it need not look again. */
static bool known_well[ES_NTASKS];

/* How much memory it takes. */
static Size
troubles_size(void)
{
	return sizeof(EsTroubleShared);
}

/* Makes the memory. */
static void
start_troubles(void *memory)
{
}

/* Adds the memory, if the library is preloaded; called once, from _PG_init. */
void
es_trouble_init(void)
{
	EsSharedPiece piece = {"eventstore troubles", troubles_size, start_troubles, (void **) &shared};

	es_shared_add(&piece);
}

/* Finds the entry of a task of this database; NULL if it has none. */
static EsTroubleEntry *
find_trouble(EsTask task)
{
	for (int i = 0; i < MOST_TROUBLES; i++)
		if (shared->entries[i].database == MyDatabaseId && shared->entries[i].task == task)
			return &shared->entries[i];
	return NULL;
}

/* Finds a place for a task of this database: a free one, or that of one that is well; or NULL. */
static EsTroubleEntry *
take_trouble_place(EsTask task)
{
	EsTroubleEntry *place = NULL;

	for (int i = 0; i < MOST_TROUBLES; i++)
	{
		EsTroubleEntry *entry = &shared->entries[i];

		if (!OidIsValid(entry->database) || (place == NULL && !entry->trouble.fails))
			place = entry;
		if (place && !OidIsValid(place->database))
			break;
	}
	if (place == NULL)
		return NULL;
	memset(place, 0, sizeof(*place));
	place->database = MyDatabaseId;
	place->task = task;
	return place;
}

/* Notes a failure; true if it is another one than that before, or the first. */
static bool
note_failure(EsTrouble *trouble, const char *message)
{
	TimestampTz now = GetCurrentTimestamp();
	int			len = pg_mbcliplen(message, strlen(message), ES_TROUBLE_TEXT - 1);
	bool		known = trouble->fails && strncmp(trouble->text, message, len) == 0 && trouble->text[len] == '\0';

	if (!trouble->fails)
	{
		trouble->failures = 0;
		trouble->since = now;
	}
	trouble->fails = true;
	trouble->failures++;
	trouble->last = now;
	memcpy(trouble->text, message, len);
	trouble->text[len] = '\0';
	return !known;
}

/*
 * es_trouble_begin notes that a task has failed, and why; tells whether that is to be said in
 * the server's log.
 */
bool
es_trouble_begin(EsTask task, const char *message)
{
	EsTroubleEntry *entry;
	bool		is_new = true;

	es_counter_add(ES_COUNT_FAILURES + task, 1);
	known_well[task] = false;
	if (shared == NULL)
		return true;
	LWLockAcquire(es_shared_lock(ES_LOCK_TROUBLES), LW_EXCLUSIVE);
	entry = find_trouble(task);
	if (entry == NULL)
		entry = take_trouble_place(task);
	if (entry)
		is_new = note_failure(&entry->trouble, message);
	LWLockRelease(es_shared_lock(ES_LOCK_TROUBLES));
	return is_new;
}

/* Says what becomes of a task that has failed; the error itself is in the log. */
static void
report_trouble(EsTask task)
{
	ereport(LOG,
			errmsg("background work of the event store failed: %s", es_trouble_names[task]),
			errdetail("It is tried again; nothing more is said of it until it fails in another way, or goes well."),
			errhint("See es_doctor() for what to do."));
}

/* es_trouble_end notes that a task has gone well, and says so if it had failed before. */
void
es_trouble_end(EsTask task)
{
	EsTroubleEntry *entry;
	uint64		failures = 0;

	/* what any session may fail at none knows to be well by itself */
	if (shared == NULL || (known_well[task] && task != ES_TASK_KEYS))
		return;
	LWLockAcquire(es_shared_lock(ES_LOCK_TROUBLES), LW_EXCLUSIVE);
	entry = find_trouble(task);
	if (entry && entry->trouble.fails)
	{
		failures = entry->trouble.failures;
		entry->trouble.fails = false;
	}
	LWLockRelease(es_shared_lock(ES_LOCK_TROUBLES));
	known_well[task] = true;
	if (failures > 0)
		ereport(LOG,
				errmsg("background work of the event store goes well again: %s", es_trouble_names[task]),
				errdetail("It had failed %llu times in a row.", (unsigned long long) failures));
}

/* Ends the current error, a failure of a task, which is said if it is new. */
static void
say_error_once(EsTask task, const ErrorData *error)
{
	bool		is_new = es_trouble_begin(task, error->message ? error->message : "unknown error");

	if (is_new)
		EmitErrorReport();
	FlushErrorState();
	if (is_new)
		report_trouble(task);
}

/*
 * es_trouble_take_error ends the current error and its transaction, and logs it unless that was
 * said before, or is said elsewhere (ES_NTASKS).
 */
void
es_trouble_take_error(EsTask task)
{
	ErrorData  *error;

	HOLD_INTERRUPTS();
	error = CopyErrorData();
	AbortCurrentTransaction();
	if (task < ES_NTASKS)
		say_error_once(task, error);
	else
		FlushErrorState();
	FreeErrorData(error);
	RESUME_INTERRUPTS();
}

/*
 * es_trouble_run does a task in a worker that is there for it.  If it fails, the worker ends;
 * without a word if the same was said before.
 */
void
es_trouble_run(EsTask task, void (*work) (void *arg), void *arg)
{
	MemoryContext context = CurrentMemoryContext;

	PG_TRY();
	{
		work(arg);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		HOLD_INTERRUPTS();
		AbortOutOfAnyTransaction();
		say_error_once(task, error);
		proc_exit(0);
	}
	PG_END_TRY();
	es_trouble_end(task);
}

/* es_trouble_read tells how a task of this database is doing; false if it has never failed. */
bool
es_trouble_read(EsTask task, EsTrouble *trouble)
{
	EsTroubleEntry *entry;

	memset(trouble, 0, sizeof(*trouble));
	if (shared == NULL)
		return false;
	LWLockAcquire(es_shared_lock(ES_LOCK_TROUBLES), LW_SHARED);
	entry = find_trouble(task);
	if (entry)
		*trouble = entry->trouble;
	LWLockRelease(es_shared_lock(ES_LOCK_TROUBLES));
	return entry != NULL;
}

/* es_trouble_forget forgets what has failed in a database that is gone. */
void
es_trouble_forget(Oid database)
{
	if (shared == NULL)
		return;
	LWLockAcquire(es_shared_lock(ES_LOCK_TROUBLES), LW_EXCLUSIVE);
	for (int i = 0; i < MOST_TROUBLES; i++)
		if (shared->entries[i].database == database)
			memset(&shared->entries[i], 0, sizeof(EsTroubleEntry));
	LWLockRelease(es_shared_lock(ES_LOCK_TROUBLES));
}
