/*
 * survey.h
 *		What is where in a schema: its subschemas, identifiers, anchors, expressions.
 */
#ifndef ES_SCHEMA_SURVEY_H
#define ES_SCHEMA_SURVEY_H

#include "base/base.h"

#include "utils/jsonb.h"

#include "json/node.h"
#include "schema/keyword.h"
#include "schema/model.h"
#include "schema/pointer.h"

typedef struct EsSubschema EsSubschema;
typedef struct EsResource EsResource;
typedef struct EsDynamicScope EsDynamicScope;	/* see variant.c */

/* A name that $dynamicAnchor gives to a subschema. */
typedef struct EsDynamicAnchor EsDynamicAnchor;
struct EsDynamicAnchor
{
	EsDynamicAnchor *next;		/* of the resource */
	const char *name;
	EsSubschema *target;
	int			number;			/* of the name; -1: nothing asks for it */
};

/* A schema with a URI of its own, the root or one with $id. */
struct EsResource
{
	EsResource *next;			/* of the survey */
	const char *uri;			/* without fragment; "" if none was given */
	EsSubschema *root;
	EsDynamicAnchor *anchors;
};

/* A node of a subschema in a dynamic scope. */
typedef struct EsVariant EsVariant;
struct EsVariant
{
	EsVariant  *next;
	const EsDynamicScope *scope;
	EsSchemaNode *node;
};

/* A subschema: an object, or a boolean that something refers to. */
struct EsSubschema
{
	EsSubschema *next;			/* of the survey, in the order of being met */
	EsNode		view;
	const EsPointer *place;
	EsResource *resource;
	int			level;
	EsSubschema *ref;			/* what $ref leads to; or NULL */
	bool		mere_ref;		/* nothing but that is asserted */
	EsSubschema *dynamic_ref;	/* what $dynamicRef leads to at first; or NULL */
	const char *dynamic_name;	/* the anchor that may be found elsewhere; or
								 * NULL */
	int			dynamic_number; /* of that name; or -1 */
	EsVariant  *variants;
};

/* What a name stands for: a URI, or a URI and an anchor. */
typedef struct EsNamed
{
	EsSubschema *target;
	bool		dynamic;		/* made by $dynamicAnchor */
} EsNamed;

/*
 * A survey is in the memory context that was current, but for what a compiled schema
 * borrows from it, which is in "keep": places and expressions, and the JSON itself.
 */
typedef struct EsSurvey
{
	MemoryContext keep;
	bool		stored;			/* the schema is, by whatever release */
	EsSubschema *first;
	EsSubschema *last;
	EsResource *resources;
	EsSubschema *root;
	uint32		count;			/* of subschemas */
	uint64		weight;			/* of all expressions */
	uint64		names_size;		/* bytes of all names */
	struct addresstable_hash *addresses;
	struct texttable_hash *names;
	struct texttable_hash *patterns;
	struct texttable_hash *dynamic_names;
	int			dynamic_count;	/* of those */
} EsSurvey;

extern EsSurvey *es_survey_make(Jsonb *json, bool stored, MemoryContext keep);
extern EsSubschema *es_survey_take(EsSurvey *survey, const EsNode *view, const EsPointer *place,
								   EsResource *resource, int level);
extern EsSubschema *es_survey_take_resource(EsSurvey *survey, Jsonb *json, const char *uri);
extern EsSubschema *es_survey_find(const EsSurvey *survey, const EsNode *view);
extern bool es_survey_find_name(const EsSurvey *survey, const char *uri, const char *anchor, EsNamed *named);
extern int	es_survey_number_name(EsSurvey *survey, const char *name, bool add);
extern const EsRegex *es_survey_pattern(const EsSurvey *survey, const EsNode *text);
extern const EsPointer *es_survey_place_keyword(const EsSurvey *survey, const EsSubschema *subschema, EsKeyword keyword);
extern EsPointer *es_survey_step(const EsSurvey *survey, const EsPointer *above, const EsNode *key, uint32 number);

/* Raises 22023 for what is wrong at a place: a keyword's name, and a predicate. */
ES_NORETURN extern void es_survey_refuse(const EsPointer *place, const char *what, const char *wrong);

#endif							/* ES_SCHEMA_SURVEY_H */
