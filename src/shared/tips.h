/*
 * tips.h
 *		Where the newest events of streams are, for all sessions.
 */
#ifndef ES_SHARED_TIPS_H
#define ES_SHARED_TIPS_H

#include "base/base.h"

#include "datatype/timestamp.h"
#include "storage/block.h"
#include "storage/itemptr.h"

/* An event that is its stream's newest, and where it is. */
typedef struct EsTipPlace
{
	int64		stream_id;
	int64		version;
	Oid			file;			/* of its segment */
	BlockNumber leaf;			/* of the index that has its entry, as it was;
								 * 0: not known */
	ItemPointerData tid;		/* its row in there */
} EsTipPlace;

extern void es_tips_init(void);
extern void es_tips_note(uint32 hash, const EsTipPlace *tip, TimestampTz recorded_at, ItemPointer row);
extern bool es_tips_find(uint32 hash, const EsTipPlace *tip, TimestampTz *recorded_at);
extern BlockNumber es_tips_find_leaf(uint32 hash, int64 stream_id, Oid file);
extern bool es_tips_find_row(uint32 hash, ItemPointer row);
extern void es_tips_forget(Oid database);

#endif							/* ES_SHARED_TIPS_H */
