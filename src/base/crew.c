/*
 * crew.c
 *		Parallel workers that help a function, and send it rows.
 *
 * They are the server's own parallel workers: they have the leader's snapshots,
 * settings and locks, and nobody can write while they run.  Each has a tuple queue,
 * which the leader empties between two pieces of its own work.  Without shared memory
 * to be had there are none, and the leader does all.
 *
 * An error in a worker is raised in the leader; the end of the (sub)transaction
 * ends all workers.
 */
#include "base/crew.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/proc.h"

#define QUEUE_SIZE		65536
#define KEY_QUEUES		UINT64CONST(0xE5C3E30000000001)

/*
 * es_crew_begin begins to gather workers that run a function of the library; from here to
 * es_crew_finish nothing can be written.  Nor can a command that has written be ended, as VOLATILE
 * functions do before each of their own: so the one that is running is, here, unless nothing can be
 * written already.
 */
void
es_crew_begin(EsCrew *crew, const char *function, int nworkers)
{
	if (!IsInParallelMode())
		CommandCounterIncrement();
	EnterParallelMode();
	crew->context = CreateParallelContext("eventstore", function, nworkers);
	es_crew_reserve(crew, mul_size(QUEUE_SIZE, crew->context->nworkers));
}

/* es_crew_reserve says that so many bytes will be shared under a key. */
void
es_crew_reserve(EsCrew *crew, Size size)
{
	shm_toc_estimate_chunk(&crew->context->estimator, size);
	shm_toc_estimate_keys(&crew->context->estimator, 1);
}

/* es_crew_set_up makes what is shared. */
void
es_crew_set_up(EsCrew *crew)
{
	InitializeParallelDSM(crew->context);
}

/* es_crew_share gives memory that workers find by a key, as was reserved. */
void *
es_crew_share(EsCrew *crew, uint64 key, Size size)
{
	void	   *shared = shm_toc_allocate(crew->context->toc, size);

	shm_toc_insert(crew->context->toc, key, shared);
	return shared;
}

/* es_crew_launch starts the workers, whose rows, of a descriptor, a receiver is given. */
void
es_crew_launch(EsCrew *crew, TupleDesc desc, DestReceiver *dest)
{
	ParallelContext *context = crew->context;
	char	   *queues = es_crew_share(crew, KEY_QUEUES, mul_size(QUEUE_SIZE, context->nworkers));

	for (int i = 0; i < context->nworkers; i++)
		shm_mq_set_receiver(shm_mq_create(queues + (Size) i * QUEUE_SIZE, QUEUE_SIZE), MyProc);
	LaunchParallelWorkers(context);
	crew->dest = dest;
	crew->incoming = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	crew->queues = palloc(Max(context->nworkers_launched, 1) * sizeof(shm_mq_handle *));
	crew->readers = palloc(Max(context->nworkers_launched, 1) * sizeof(TupleQueueReader *));
	for (int i = 0; i < context->nworkers_launched; i++)
	{
		crew->queues[i] = shm_mq_attach((shm_mq *) (queues + (Size) i * QUEUE_SIZE), context->seg,
										context->worker[i].bgwhandle);
		crew->readers[i] = CreateTupleQueueReader(crew->queues[i]);
	}
	crew->nreaders = context->nworkers_launched;
}

/* es_crew_take_row takes one row that a worker has sent; false if there is none at the moment. */
bool
es_crew_take_row(EsCrew *crew)
{
	/* who takes all there are may have no end of them */
	CHECK_FOR_INTERRUPTS();
	for (int tries = crew->nreaders; tries > 0 && crew->nreaders > 0; tries--)
	{
		TupleQueueReader *reader;
		MinimalTuple tuple;
		bool		done;

		crew->next %= crew->nreaders;
		reader = crew->readers[crew->next];
		tuple = TupleQueueReaderNext(reader, true, &done);
		if (tuple != NULL)
		{
			ExecStoreMinimalTuple(tuple, crew->incoming, false);
			(void) crew->dest->receiveSlot(crew->incoming, crew->dest);
			return true;
		}
		if (done)
		{
			DestroyTupleQueueReader(reader);
			crew->readers[crew->next] = crew->readers[--crew->nreaders];
			crew->queues[crew->next] = crew->queues[crew->nreaders];
		}
		else
			crew->next++;
	}
	return false;
}

/* Lets workers go that have nothing more to say. */
static void
let_crew_go(EsCrew *crew)
{
	WaitForParallelWorkersToFinish(crew->context);
	DestroyParallelContext(crew->context);
	ExitParallelMode();
	ExecDropSingleTupleTableSlot(crew->incoming);
	pfree(crew->readers);
	pfree(crew->queues);
	memset(crew, 0, sizeof(EsCrew));
}

/* es_crew_await_row takes one row, and waits for it; false if all workers have sent their last. */
bool
es_crew_await_row(EsCrew *crew)
{
	static uint32 wait_event = 0;

	while (!es_crew_take_row(crew))
	{
		if (crew->nreaders == 0)
			return false;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH, 0,
						 es_base_wait_event(&wait_event, "EventstoreCrew"));
		ResetLatch(MyLatch);
	}
	return true;
}

/* es_crew_finish takes rows until all workers have sent their last, and lets them go. */
void
es_crew_finish(EsCrew *crew)
{
	while (es_crew_await_row(crew))
		;
	let_crew_go(crew);
}

/*
 * es_crew_dismiss takes no more rows and lets the workers go, which end when they find that
 * nobody takes what they send.
 */
void
es_crew_dismiss(EsCrew *crew)
{
	while (crew->nreaders > 0)
	{
		DestroyTupleQueueReader(crew->readers[--crew->nreaders]);
		shm_mq_detach(crew->queues[crew->nreaders]);
	}
	let_crew_go(crew);
}

/* es_crew_join makes a parallel worker one of the leader's crew, and gives what takes its rows. */
DestReceiver *
es_crew_join(dsm_segment *segment, shm_toc *toc)
{
	char	   *queues = shm_toc_lookup(toc, KEY_QUEUES, false);
	shm_mq	   *queue = (shm_mq *) (queues + (Size) ParallelWorkerNumber * QUEUE_SIZE);

	shm_mq_set_sender(queue, MyProc);
	return CreateTupleQueueDestReceiver(shm_mq_attach(queue, segment, NULL));
}

/* es_crew_leave says that a worker has sent its last row. */
void
es_crew_leave(DestReceiver *dest)
{
	dest->rShutdown(dest);
	dest->rDestroy(dest);
}
