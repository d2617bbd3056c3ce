/*
 * protection.h
 *		Which fields of which categories' events are protected, from which position on.
 */
#ifndef ES_SECRET_PROTECTION_H
#define ES_SECRET_PROTECTION_H

#include "base/base.h"

#include "nodes/pathnodes.h"
#include "nodes/pg_list.h"
#include "utils/array.h"

#include "base/names.h"
#include "base/objects.h"
#include "json/node.h"
#include "json/value.h"
#include "secret/cipher.h"
#include "table/columns.h"

/* Columns of eventstore.protections. */
#define Anum_protections_after_position	1
#define Anum_protections_created_at		2
#define Anum_protections_hashed			3
#define Anum_protections_category		4
#define Anum_protections_subject		5
#define Anum_protections_paths			6
#define Natts_protections				6

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
	EsNames		paths;			/* as they were given */
	EsProtectedStep data;		/* without steps: nothing is, any more */
	const text *subject;		/* NULL: as well */
	EsValue    *subject_value;
	bool		hashed;			/* the subject is itself protected */
} EsProtection;

/* All definitions of a category. */
typedef struct EsProtected
{
	const text *category;		/* hash key */
	uint8		digest[ES_CIPHER_DIGEST];	/* of the category in UTF-8 */
	int			count;
	int			room;
	EsProtection *definitions;	/* in order of after_position */
	EsProtectedStep ever;		/* what any of them protects */
} EsProtected;

/* What the session knows of all. */
typedef struct EsProtections
{
	bool		any;			/* there is a definition */
	bool		any_hashed;
	bool		known;
	uint64		changes;		/* of the table, as it was read */
} EsProtections;

extern EsProtections es_protection_state;
extern EsRelation es_protection_table;	/* eventstore.protections */
extern const EsShape es_protection_shape;

extern bool es_protection_look(void);
extern void es_protection_note_plan(PlannerInfo *root);

/* es_protection_any tells whether any category has, or had, a protected field. */
static inline bool
es_protection_any(void)
{
	if (likely(es_protection_state.known && es_protection_state.changes == es_base_changes_of(&es_protection_table)))
		return es_protection_state.any;
	return es_protection_look();
}

/* What these give is good until the session next looks at rows. */
extern const EsProtected *es_protection_of(const text *stream);
extern List *es_protection_categories(void);
extern const EsProtected *es_protection_of_category(const text *category);
extern const EsProtection *es_protection_at(const EsProtected *category, int64 position);
extern const EsProtection *es_protection_now(const EsProtected *category);

extern bool es_protection_touches_value(const text *category, const EsValue *value);

extern void es_protection_digest(const text *category, uint8 *digest);

/* Paths to protected fields. */
extern const EsKey *es_protection_compile_path(const text *path, int *nkeys);
extern EsValue *es_protection_compile_subject(const text *path);
extern bool es_protection_is_within(const EsKey *inner, int ninner, const EsKey *outer, int nouter);

#endif							/* ES_SECRET_PROTECTION_H */
