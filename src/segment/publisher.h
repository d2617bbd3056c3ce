/*
 * publisher.h
 *		What the publisher of a subscription has of an event store.
 */
#ifndef ES_SEGMENT_PUBLISHER_H
#define ES_SEGMENT_PUBLISHER_H

#include "base/base.h"

#include "nodes/pg_list.h"

/* Whom to ask. */
typedef struct EsPublisher
{
	const char *conninfo;
	bool		needs_password;
	const char *subscription;
	List	   *publications;	/* of String */
} EsPublisher;

/* A segment of the publisher's. */
typedef struct EsPublishedSegment
{
	int64		number;
	int64		first_position;
	int64		last_position;
	bool		has_table;		/* that is attached, or would be published by
								 * itself */
	bool		has_placeholder;	/* that would be, see
									 * lifecycle/placeholder.c */
	bool		sealed;
	bool		emptied;
	int64		events;			/* -1: not counted */
} EsPublishedSegment;

/* What the publisher was found to have. */
typedef struct EsPublished
{
	bool		publishes;		/* anything of a store's; else the rest is
								 * empty */
	List	   *segments;		/* of EsPublishedSegment, in order */
	List	   *states;			/* of int64: projections that have a table */
} EsPublished;

extern EsPublisher es_publisher_own(void);
extern bool es_publisher_ask(const EsPublisher *publisher, EsPublished *answer);
extern void es_publisher_drop_slot(const EsPublisher *publisher, char *slot);

#endif							/* ES_SEGMENT_PUBLISHER_H */
