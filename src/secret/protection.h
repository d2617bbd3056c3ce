/*
 * protection.h
 *		Which fields of which categories' events are protected, from which position on.
 */
#ifndef ES_SECRET_PROTECTION_H
#define ES_SECRET_PROTECTION_H

#include "base/base.h"

#include "base/event.h"
#include "json/node.h"
#include "json/value.h"
#include "table/columns.h"

/*
 * A step from $.data to protected fields.  Arrays on the way are gone through, however
 * deep they are nested, so steps are keys only.
 */
typedef struct EsProtectedStep
{
	EsKey		key;
	bool		is_field;		/* the value is protected as a whole */
	int			count;
	struct EsProtectedStep *steps;	/* if not; in jsonb's order of keys */
} EsProtectedStep;

/* What is protected of a category's events after a position, up to that of the next definition. */
typedef struct EsProtection
{
	int64		after_position;
	EsProtectedStep data;		/* without steps: nothing is, any more */
	const char *subject;		/* the path, and compiled; NULL: none */
	EsValue    *subject_value;
	bool		hashed;			/* the subject is itself protected */
} EsProtection;

/* All definitions of a category. */
typedef struct EsProtected
{
	const text *category;		/* hash key */
	int			count;
	EsProtection *definitions;	/* in order of after_position */
	EsProtectedStep ever;		/* what any of them protects */
} EsProtected;

extern bool es_protection_any(void);
extern const EsProtected *es_protection_of(const text *stream);
extern const EsProtection *es_protection_at(const EsProtected *category, int64 position);

/*
 * Tells whether a path of keys below $.data takes in a field that a category (NULL: any)
 * protects or has protected, or lies in one.
 */
extern bool es_protection_touches(const text *category, const EsKey *keys, int nkeys);

#endif							/* ES_SECRET_PROTECTION_H */
