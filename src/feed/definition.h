/*
 * definition.h
 *		Feeds' definitions: the rows that say what a feed lets through.
 */
#ifndef ES_FEED_DEFINITION_H
#define ES_FEED_DEFINITION_H

#include "base/base.h"

#include "access/xlogdefs.h"

#include "base/names.h"
#include "table/columns.h"

extern const EsShape es_feeddefinition_names_shape; /* eventstore.feeds */
extern const EsShape es_feeddefinition_shape;	/* eventstore.feed_definitions */

/* A definition's newest revision. */
typedef struct EsFeedDefinition
{
	XLogRecPtr	definition;
	int32		revision;
	EsNames		categories;
	EsNames		types;
	char	   *query;			/* its JSON; NULL: none */
	text	   *format;
} EsFeedDefinition;

extern void es_feeddefinition_lock(void);
extern bool es_feeddefinition_find(const char *feed, EsFeedDefinition *found);
extern void es_feeddefinition_create(const char *feed, const EsFeedDefinition *first);
extern void es_feeddefinition_revise(EsFeedDefinition *next);
extern void es_feeddefinition_share(const EsFeedDefinition *definition, const char *feed);
extern bool es_feeddefinition_drop(const char *feed);

#endif							/* ES_FEED_DEFINITION_H */
