/*
 * holdoff.c
 *		Who wants no worker in a database.
 *
 * Statements that need a database for themselves hold its worker off (server/statements.c).
 * One that died without letting go is found by its pid, so nothing has to be cleaned up after
 * it.  Who has the lock of what this is in may change it if he has it to himself.
 */
#include "shared/holdoff.h"

#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procarray.h"

/* es_holdoff_find gives the pid of one who holds the worker off; 0: nobody does. */
pid_t
es_holdoff_find(const EsHoldoff *holdoff)
{
	for (int i = 0; i < ES_HOLDOFF_MOST; i++)
		if (holdoff->pids[i] != 0 && BackendPidGetProc(holdoff->pids[i]) != NULL)
			return holdoff->pids[i];
	return 0;
}

/* es_holdoff_begin makes this process one of them; false if there are too many. */
bool
es_holdoff_begin(EsHoldoff *holdoff)
{
	int			free = -1;

	for (int i = 0; i < ES_HOLDOFF_MOST; i++)
	{
		if (holdoff->pids[i] == MyProcPid)
			return true;
		if (free < 0 && (holdoff->pids[i] == 0 || BackendPidGetProc(holdoff->pids[i]) == NULL))
			free = i;
	}
	if (free >= 0)
		holdoff->pids[free] = MyProcPid;
	return free >= 0;
}

/* es_holdoff_end undoes that. */
void
es_holdoff_end(EsHoldoff *holdoff)
{
	for (int i = 0; i < ES_HOLDOFF_MOST; i++)
		if (holdoff->pids[i] == MyProcPid)
			holdoff->pids[i] = 0;
}

/* es_holdoff_wake wakes all of them: the worker is gone. */
void
es_holdoff_wake(const EsHoldoff *holdoff)
{
	for (int i = 0; i < ES_HOLDOFF_MOST; i++)
	{
		PGPROC	   *holder = holdoff->pids[i] != 0 ? BackendPidGetProc(holdoff->pids[i]) : NULL;

		if (holder)
			SetLatch(&holder->procLatch);
	}
}
