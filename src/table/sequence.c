/*
 * sequence.c
 *		Sequences read where they are stored, and numbers taken off them in
 *		blocks.
 *
 * nextval gives one number a call; a batch wants as many as it has events, next
 * to each other, for the price of one.  So the sequence's row is advanced here as
 * nextval advances it: under RowExclusiveLock on the relation, held to the end
 * of the top-level transaction (which is what the settle rule reads), with the
 * page locked exclusively, and with a record of the server's own that says where
 * the sequence will be 32 numbers later, so that most calls write none.  A crash
 * therefore leaves a hole of up to 32 numbers, as after nextval.
 *
 * currval() and lastval() of the session do not see numbers taken here.
 *
 * Sequences are expected to be ascending by 1 without CYCLE, as the extension makes them.
 */
#include "table/sequence.h"

#include "access/htup.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "access/xloginsert.h"
#include "commands/sequence.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/rel.h"
#include "utils/resowner.h"

/* How many numbers a WAL record is ahead, as nextval has it. */
#define NUMBERS_LOGGED_AHEAD	32

/*
 * Reads the one row of a sequence; its page is locked as the caller asks, and must
 * be released by it.
 */
static Form_pg_sequence_data
lock_sequence_row(Relation rel, int mode, Buffer *buffer, HeapTupleData *row)
{
	Page		page;
	ItemId		item;

	*buffer = ReadBuffer(rel, 0);
	LockBuffer(*buffer, mode);
	page = BufferGetPage(*buffer);
	item = PageGetItemId(page, FirstOffsetNumber);
	row->t_data = (HeapTupleHeader) PageGetItem(page, item);
	row->t_len = ItemIdGetLength(item);
	return (Form_pg_sequence_data) ((char *) row->t_data + row->t_data->t_hoff);
}

/* The last number that was given out, 0 for none. */
static inline int64
last_number_given(const FormData_pg_sequence_data *data)
{
	return data->is_called ? data->last_value : data->last_value - 1;
}

/* Opens a sequence under a lock that outlives subtransactions. */
static Relation
open_sequence_to_take(EsRelation *sequence)
{
	ResourceOwner owner = CurrentResourceOwner;

	CurrentResourceOwner = TopTransactionResourceOwner;
	es_base_lock(sequence, RowExclusiveLock);
	CurrentResourceOwner = owner;
	return relation_open(sequence->oid, NoLock);
}

/*
 * Logs a sequence's row as it will be once it has been advanced to a number; the
 * caller is in a critical section.
 */
static void
log_sequence_advance(Relation rel, Buffer buffer, const HeapTupleData *row, Form_pg_sequence_data data, int64 number)
{
	xl_seq_rec	record = {0};
	XLogRecPtr	lsn;

	data->last_value = number;
	data->is_called = true;
	data->log_cnt = 0;
	es_sequence_record_set(record, rel);
	XLogBeginInsert();
	XLogRegisterBuffer(0, buffer, REGBUF_WILL_INIT);
	XLogRegisterData((char *) &record, sizeof(record));
	XLogRegisterData((char *) row->t_data, row->t_len);
	lsn = XLogInsert(RM_SEQ_ID, XLOG_SEQ_LOG);
	PageSetLSN(BufferGetPage(buffer), lsn);
}

/* Advances a sequence's row by n, logged if what is logged ahead does not do. */
static void
advance_sequence(Relation rel, Buffer buffer, const HeapTupleData *row, Form_pg_sequence_data data, int64 n)
{
	int64		last = last_number_given(data) + n;
	int64		left = data->log_cnt - n;
	bool		log = left < 0 || !data->is_called ||
	PageGetLSN(BufferGetPage(buffer)) <= GetRedoRecPtr();

	if (log)
	{
		left = Min(NUMBERS_LOGGED_AHEAD, PG_INT64_MAX - last);
		if (RelationNeedsWAL(rel))
			(void) GetTopTransactionId();	/* so that its commit flushes */
	}
	START_CRIT_SECTION();
	MarkBufferDirty(buffer);
	if (log && RelationNeedsWAL(rel))
		log_sequence_advance(rel, buffer, row, data, last + left);
	data->last_value = last;
	data->is_called = true;
	data->log_cnt = left;
	END_CRIT_SECTION();
}

/*
 * es_sequence_take takes the next n numbers, at least one, and returns the
 * first.  Raises 2200H if there are not so many left.  A rollback does not give
 * them back.
 */
int64
es_sequence_take(EsRelation *sequence, int64 n)
{
	Relation	rel = open_sequence_to_take(sequence);
	Buffer		buffer;
	HeapTupleData row;
	Form_pg_sequence_data data = lock_sequence_row(rel, BUFFER_LOCK_EXCLUSIVE, &buffer, &row);
	int64		before = last_number_given(data);

	if (before > PG_INT64_MAX - n)
		ereport(ERROR,
				errcode(ERRCODE_SEQUENCE_GENERATOR_LIMIT_EXCEEDED),
				errmsg("sequence \"%s\" does not have " INT64_FORMAT " numbers left",
					   RelationGetRelationName(rel), n));
	advance_sequence(rel, buffer, &row, data, n);
	UnlockReleaseBuffer(buffer);
	relation_close(rel, NoLock);
	return before + 1;
}

/*
 * es_sequence_raise sees to it that a sequence goes on past a number, as if somebody
 * had taken all up to it and given his locks back.  One that has come further stays.
 */
void
es_sequence_raise(EsRelation *sequence, int64 number)
{
	Relation	rel;
	Buffer		buffer;
	HeapTupleData row;
	Form_pg_sequence_data data;
	int64		before;

	es_base_lock(sequence, RowExclusiveLock);
	rel = relation_open(sequence->oid, NoLock);
	data = lock_sequence_row(rel, BUFFER_LOCK_EXCLUSIVE, &buffer, &row);
	before = last_number_given(data);
	if (before < number)
		advance_sequence(rel, buffer, &row, data, number - before);
	UnlockReleaseBuffer(buffer);
	relation_close(rel, RowExclusiveLock);
}

/*
 * es_sequence_read tells the last number that a sequence has given out, 0 for
 * none.  *lsn becomes the LSN of its page, up to which the WAL must be on disk
 * for no crash to bring the number back.
 */
int64
es_sequence_read(EsRelation *sequence, XLogRecPtr *lsn)
{
	Relation	rel;
	Buffer		buffer;
	HeapTupleData row;
	int64		last;

	es_base_lock(sequence, AccessShareLock);
	rel = relation_open(sequence->oid, NoLock);
	last = last_number_given(lock_sequence_row(rel, BUFFER_LOCK_SHARE, &buffer, &row));
	*lsn = BufferGetLSNAtomic(buffer);
	UnlockReleaseBuffer(buffer);
	relation_close(rel, AccessShareLock);
	return last;
}
