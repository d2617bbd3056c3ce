/*
 * scope.h
 *		What a template's paths are about: an event, and a state before it.
 */
#ifndef ES_JSON_SCOPE_H
#define ES_JSON_SCOPE_H

#include "base/base.h"

#include "base/event.h"
#include "json/node.h"

/* What a path can begin with; in jsonb's order of keys. */
typedef enum EsRoot
{
	ES_ROOT_DATA,
	ES_ROOT_TYPE,
	ES_ROOT_STATE,
	ES_ROOT_STREAM,
	ES_ROOT_VERSION,
	ES_ROOT_EVENT_ID,
	ES_ROOT_METADATA,
	ES_ROOT_POSITION,
	ES_ROOT_RECORDED_AT,
	ES_ROOT_COUNT
} EsRoot;

#define ES_ALL_ROOTS	((1U << ES_ROOT_COUNT) - 1)

#define ES_SCOPE_MOST_WANTED	16

/* Members of the data that paths go to first, in jsonb's order of keys. */
typedef struct EsWanted
{
	int			count;
	EsKey		keys[ES_SCOPE_MOST_WANTED];
} EsWanted;

/* What paths are about: an event, and a state before it. */
typedef struct EsScope
{
	const EsEvent *event;
	EsNode	   *state;			/* NULL: there is none */
	unsigned	known;			/* bits: which of the members are made */
	EsNode		members[ES_ROOT_COUNT];
	const EsWanted *wanted;		/* NULL: nobody has said what paths go to */
	EsNode		found[ES_SCOPE_MOST_WANTED];	/* of what is wanted, once it
												 * is known: */
	enum
	{
		ES_SOUGHT_NOT_YET,
		ES_SOUGHT_FOUND,		/* or found to be absent */
		ES_SOUGHT_IN_VAIN		/* each is to be looked up by itself */
	}			sought;
} EsScope;

extern void es_scope_init(void);
extern const EsKey *es_scope_key(EsRoot root);
extern const char *es_scope_name(EsRoot root);
extern EsRoot es_scope_find(const char *name, int len);
extern void es_scope_begin(EsScope *scope, const EsEvent *event, EsNode *state);
extern const EsNode *es_scope_make(EsScope *scope, EsRoot root);
extern bool es_scope_seek(EsScope *scope);

/* es_scope_member gives a member that tells of the event; not the state. */
static inline const EsNode *
es_scope_member(EsScope *scope, EsRoot root)
{
	return scope->known & (1U << root) ? &scope->members[root] : es_scope_make(scope, root);
}

/* es_scope_has_found tells whether the members of the data that are wanted have been looked up. */
static inline bool
es_scope_has_found(EsScope *scope)
{
	return scope->sought == ES_SOUGHT_NOT_YET ? es_scope_seek(scope) : scope->sought == ES_SOUGHT_FOUND;
}

#endif							/* ES_JSON_SCOPE_H */
