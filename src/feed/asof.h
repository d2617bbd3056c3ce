/*
 * asof.h
 *		A feed's definition as of a place in the WAL.
 */
#ifndef ES_FEED_ASOF_H
#define ES_FEED_ASOF_H

#include "base/base.h"

#include "access/xlogdefs.h"
#include "utils/snapshot.h"

#include "feed/filter.h"
#include "feed/option.h"

/* Slots of feeds are named so. */
#define ES_FEED_PREFIX "es_"

/* The tables, by name and column: they are read without what base/objects.h keeps. */
#define ES_FEEDS_TABLE				"feeds"
#define Anum_feeds_definition		1
#define Anum_feeds_name				2
#define Natts_feeds					2

#define ES_FEED_DEFINITIONS_TABLE		"feed_definitions"
#define Anum_feed_definitions_definition	1
#define Anum_feed_definitions_revision	2
#define Anum_feed_definitions_part		3
#define Anum_feed_definitions_format	4
#define Anum_feed_definitions_categories	5
#define Anum_feed_definitions_types		6
#define Anum_feed_definitions_query		7
#define Natts_feed_definitions			7

/* What one decoding session knows of its feed. */
typedef struct EsFeedAsOf
{
	const char *name;			/* NULL: the slot is not a feed's */
	MemoryContext context;		/* of kept; reset when it is read anew */
	EsFeedKept	kept;
	EsFeedFormat format;		/* UNSAID: the slot has no definition */

	/* which one that is; InvalidXLogRecPtr: there is none */
	XLogRecPtr	definition;
	int32		revision;

	/* of the snapshot that it was looked for with */
	bool		looked;
	TransactionId xmin;
	uint32		xcnt;
} EsFeedAsOf;

extern void es_feedasof_begin(EsFeedAsOf *feed, const char *slot_name, MemoryContext parent);
extern void es_feedasof_look(EsFeedAsOf *feed, Snapshot newest);

#endif							/* ES_FEED_ASOF_H */
