/*
 * headway.c
 *		How far long commands are, for es_progress.
 *
 * With the library preloaded each backend has a slot in shared memory that only itself
 * writes.  It says which command is running, what that is at, how much of it is done and,
 * where that is known, of how much.  Commands call each other: the outermost gives the
 * command, whoever spoke last the rest.
 *
 * Who reads a slot looks before and after at a number that is odd while it is being
 * written, and takes it only if that has not changed.  How much is done is written past
 * that, since it is nothing without the next value.
 *
 * A command ends with the function that began it; where that is left by an error, with the
 * (sub)transaction in which it was begun, or, in a worker that has none at that time, with
 * the process.  A crash empties all slots.
 */
#include "shared/headway.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/ipc.h"
#include "storage/proc.h"

#include "shared/memory.h"

#define MOST_COMMANDS	8		/* in each other, that are told apart */
#define TRIES			100		/* to read a slot */

/* A backend's slot; written by the backend only. */
typedef struct EsHeadwaySlot
{
	pg_atomic_uint32 changes;	/* odd: being written */
	uint32		command;		/* ES_COMMAND_NONE: none */
	uint32		phase;
	int			pid;
	Oid			database;
	Oid			role;
	int64		total;
	pg_atomic_uint64 done;
} EsHeadwaySlot;

typedef union EsHeadwayPlace
{
	EsHeadwaySlot slot;
	char		pad[PG_CACHE_LINE_SIZE];
} EsHeadwayPlace;

#define NPLACES		(MaxBackends + 1)

static const char *const command_names[ES_NLONGCOMMANDS] = {
	[ES_COMMAND_NONE] = "none",
	[ES_COMMAND_REBUILD] = "es_rebuild_projection",
	[ES_COMMAND_RUN_PROJECTION] = "es_run_projection",
	[ES_COMMAND_SCAVENGE] = "es_scavenge",
	[ES_COMMAND_SEAL] = "es_seal",
	[ES_COMMAND_VERIFY] = "es_verify",
	[ES_COMMAND_DETACH] = "es_detach_segments",
	[ES_COMMAND_ATTACH] = "es_attach_segment",
	[ES_COMMAND_SHRED] = "es_shred",
	[ES_COMMAND_ROTATE] = "es_rotate_master_key",
	[ES_COMMAND_PROTECT] = "es_protect",
	[ES_COMMAND_REPLAY_CATEGORY] = "es_replay_category",
	[ES_COMMAND_INDEX_TYPE] = "es_index_type",
	[ES_COMMAND_MAKE_SEGMENTS] = "making segments"
};

static const char *const phase_names[ES_NPHASES] = {
	[ES_PHASE_STARTING] = "starting",
	[ES_PHASE_TAKING_IN] = "taking in events",
	[ES_PHASE_GOING_OVER] = "keeping appends off, to end the rebuild",
	[ES_PHASE_RETENTION] = "hiding what ages out",
	[ES_PHASE_REMOVING] = "removing hidden events",
	[ES_PHASE_FREEZING] = "freezing segments",
	[ES_PHASE_COMPACTING] = "copying what is left of a segment",
	[ES_PHASE_INDEXING] = "building indexes",
	[ES_PHASE_HASHING] = "digesting events",
	[ES_PHASE_VERIFYING] = "verifying events",
	[ES_PHASE_AUDITING] = "verifying the tree and the seals",
	[ES_PHASE_DETACHING] = "detaching segments",
	[ES_PHASE_WAITING] = "waiting for transactions",
	[ES_PHASE_CHECKING] = "checking the table",
	[ES_PHASE_PROJECTIONS] = "checking projections",
	[ES_PHASE_KEYS] = "going through keys",
	[ES_PHASE_STATES] = "looking for states made of protected data",
	[ES_PHASE_FOLDING] = "folding streams",
	[ES_PHASE_SNAPSHOTS] = "leaving snapshots",
	[ES_PHASE_MAKING] = "making segments"
};

static EsHeadwayPlace *shared = NULL;

/* At which nest level of transactions each of the commands was begun that run, outermost first. */
static int	levels[MOST_COMMANDS];
static int	ncommands = 0;

/* How much memory it takes. */
static Size
headways_size(void)
{
	return mul_size(NPLACES, sizeof(EsHeadwayPlace));
}

/* Makes the memory. */
static void
start_headways(void *memory)
{
	EsHeadwayPlace *places = memory;

	for (int i = 0; i < NPLACES; i++)
	{
		pg_atomic_init_u32(&places[i].slot.changes, 0);
		pg_atomic_init_u64(&places[i].slot.done, 0);
	}
}

/* This backend's slot; NULL where nobody looks. */
static EsHeadwaySlot *
own_slot(void)
{
	return shared ? &shared[es_my_backend()].slot : NULL;
}

/* Begins to write a slot. */
static void
open_slot(EsHeadwaySlot *slot)
{
	pg_atomic_write_u32(&slot->changes, pg_atomic_read_u32(&slot->changes) + 1);
	pg_write_barrier();
}

/* Ends to write it. */
static void
close_slot(EsHeadwaySlot *slot)
{
	pg_write_barrier();
	pg_atomic_write_u32(&slot->changes, pg_atomic_read_u32(&slot->changes) + 1);
}

/* Makes the slot one of a backend that is at nothing. */
static void
empty_own_slot(void)
{
	EsHeadwaySlot *slot = own_slot();

	open_slot(slot);
	slot->command = ES_COMMAND_NONE;
	close_slot(slot);
}

/* Ends the commands that were begun at a nest level, or deeper. */
static void
end_commands_from(int level)
{
	if (ncommands == 0)
		return;
	while (ncommands > 0 && (ncommands > MOST_COMMANDS || levels[ncommands - 1] >= level))
		ncommands--;
	if (ncommands == 0)
		empty_own_slot();
}

/* Ends what an error has left. */
static void
end_commands_at_xact_end(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_ABORT || event == XACT_EVENT_COMMIT || event == XACT_EVENT_PREPARE)
		end_commands_from(1);
}

/* Ends what an error has left in a subtransaction. */
static void
end_commands_at_subxact_abort(SubXactEvent event, SubTransactionId subid, SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		end_commands_from(GetCurrentTransactionNestLevel());
}

/* Ends what the end of the process has left. */
static void
end_commands_at_exit(int code, Datum arg)
{
	end_commands_from(0);
}

/* Adds the memory, if the library is preloaded; called once, from _PG_init. */
void
es_headway_init(void)
{
	EsSharedPiece piece = {"eventstore headway", headways_size, start_headways, (void **) &shared};

	es_shared_add(&piece);
	RegisterXactCallback(end_commands_at_xact_end, NULL);
	RegisterSubXactCallback(end_commands_at_subxact_abort, NULL);
}

/* es_headway_begin begins a command; es_headway_end ends it. */
void
es_headway_begin(EsLongCommand command)
{
	static bool registered = false;
	EsHeadwaySlot *slot = own_slot();

	if (slot == NULL)
		return;
	if (!registered)
		before_shmem_exit(end_commands_at_exit, (Datum) 0);
	registered = true;
	if (ncommands < MOST_COMMANDS)
		levels[ncommands] = GetCurrentTransactionNestLevel();
	if (ncommands++ > 0)
		return;
	open_slot(slot);
	slot->command = command;
	slot->phase = ES_PHASE_STARTING;
	slot->pid = MyProcPid;
	slot->database = MyDatabaseId;
	slot->role = GetUserId();
	slot->total = -1;
	pg_atomic_write_u64(&slot->done, 0);
	close_slot(slot);
}

/* es_headway_enter begins a phase of a command: so much of it is to be done; -1: not known. */
void
es_headway_enter(EsPhase phase, int64 total)
{
	EsHeadwaySlot *slot = own_slot();

	if (slot == NULL || ncommands == 0)
		return;
	open_slot(slot);
	slot->phase = phase;
	slot->total = total;
	pg_atomic_write_u64(&slot->done, 0);
	close_slot(slot);
}

/* es_headway_reach says how much of the phase is done. */
void
es_headway_reach(int64 done)
{
	if (ncommands > 0)
		pg_atomic_write_u64(&own_slot()->done, (uint64) done);
}

/* es_headway_add says that so much more is done. */
void
es_headway_add(int64 n)
{
	if (ncommands > 0)
		pg_atomic_write_u64(&own_slot()->done, pg_atomic_read_u64(&own_slot()->done) + n);
}

/* es_headway_end ends the command that was begun last. */
void
es_headway_end(void)
{
	if (ncommands > 0 && --ncommands == 0)
		empty_own_slot();
}

/* Reads a slot; false if its backend is at nothing in this database, or it could not be read. */
static bool
read_slot(EsHeadwaySlot *slot, EsHeadway *headway)
{
	for (int i = 0; i < TRIES; i++)
	{
		uint32		changes = pg_atomic_read_u32(&slot->changes);
		uint32		command;
		uint32		phase;
		Oid			database;

		pg_read_barrier();
		command = slot->command;
		phase = slot->phase;
		database = slot->database;
		headway->pid = slot->pid;
		headway->role = slot->role;
		headway->total = slot->total;
		headway->done = (int64) pg_atomic_read_u64(&slot->done);
		pg_read_barrier();
		if ((changes & 1) != 0 || pg_atomic_read_u32(&slot->changes) != changes)
			continue;
		if (command == ES_COMMAND_NONE || database != MyDatabaseId)
			return false;
		headway->command = command_names[command];
		headway->phase = phase_names[phase];
		return true;
	}
	return false;
}

/* es_headway_read gives what backends of this database are at, and returns how many there are. */
int
es_headway_read(EsHeadway **all)
{
	int			count = 0;

	*all = NULL;
	if (shared == NULL)
		return 0;
	*all = palloc(sizeof(EsHeadway) * NPLACES);
	for (int i = 0; i < NPLACES; i++)
		if (read_slot(&shared[i].slot, &(*all)[count]))
			count++;
	return count;
}
