/*
 * model.h
 *		A JSON Schema as it is compiled.
 *
 * A graph: a node for each subschema that the root reaches, $ref and $dynamicRef
 * included, which are pointers here.  No way leads from a node back to itself through
 * nodes about the same value only, and no such way is longer than ES_MOST_APPLIED; so
 * whoever follows the graph along with a value ends where the value does.  One who
 * follows the graph alone has to note where it was.  Everything lives in the memory
 * context that was current when it was compiled, and nothing in it changes after that.
 */
#ifndef ES_SCHEMA_MODEL_H
#define ES_SCHEMA_MODEL_H

#include "base/base.h"

#include "utils/numeric.h"

#include "json/node.h"
#include "schema/pointer.h"

typedef struct EsSchemaNode EsSchemaNode;
typedef struct EsRegex EsRegex; /* see pattern.h */

/* Types of values, as bits.  A number is one of two. */
#define ES_TYPE_NULL		0x01
#define ES_TYPE_BOOLEAN		0x02
#define ES_TYPE_STRING		0x04
#define ES_TYPE_INTEGER		0x08	/* a number without a fraction, as 1.0 */
#define ES_TYPE_FRACTION	0x10	/* any other number */
#define ES_TYPE_OBJECT		0x20
#define ES_TYPE_ARRAY		0x40
#define ES_TYPE_NUMBER		(ES_TYPE_INTEGER | ES_TYPE_FRACTION)
#define ES_TYPE_ANY			0x7f

#define ES_MOST_APPLIED		1000	/* nodes on a way that stays at one value */
#define ES_NO_LIMIT			PG_UINT32_MAX	/* a maximum that nothing reaches */

/* Values in the order of es_order_compare, each once. */
typedef struct EsValueSet
{
	uint32		count;
	EsNode	   *values;
} EsValueSet;

/* Subschemas, in the order of the document. */
typedef struct EsSchemaList
{
	uint32		count;
	EsSchemaNode **nodes;
} EsSchemaList;

typedef struct EsNumberRules
{
	/* NULL: there is no such keyword */
	Numeric		minimum;
	Numeric		maximum;
	Numeric		exclusive_minimum;
	Numeric		exclusive_maximum;
	Numeric		multiple_of;
	Numeric		zero;			/* what remainders are compared with */
} EsNumberRules;

typedef struct EsStringRules
{
	uint32		min_length;		/* of characters */
	uint32		max_length;
	const EsRegex *pattern;		/* or NULL */
	EsNode		pattern_text;	/* as the schema has it */
} EsStringRules;

typedef struct EsArrayRules
{
	uint32		min_items;
	uint32		max_items;
	bool		unique_items;
	EsSchemaList prefix_items;
	EsSchemaNode *items;		/* for those after the prefix; or NULL */
	EsSchemaNode *contains;		/* or NULL; the next two are about it */
	uint32		min_contains;
	uint32		max_contains;
	bool		min_contains_given;
} EsArrayRules;

/* What there is about a key. */
typedef struct EsSchemaProperty
{
	EsKey		key;
	bool		required;
	EsSchemaNode *schema;		/* of "properties"; or NULL */
	EsSchemaNode *dependent;	/* of "dependentSchemas"; or NULL */
	uint32		needs_count;	/* of "dependentRequired" */
	EsKey	   *needs;
} EsSchemaProperty;

/* A member of "patternProperties". */
typedef struct EsPatternProperty
{
	const EsRegex *pattern;
	EsNode		pattern_text;
	EsSchemaNode *schema;
} EsPatternProperty;

typedef struct EsObjectRules
{
	uint32		min_properties;
	uint32		max_properties;
	uint32		count;			/* of properties */
	uint32		required_count; /* of those that are required */
	bool		dependencies;	/* a property has "dependent" or "needs" */
	EsSchemaProperty *properties;	/* in the order of es_tree_compare_keys */
	uint32		pattern_count;
	EsPatternProperty *patterns;
	EsSchemaNode *additional;	/* for what neither names nor patterns match;
								 * or NULL */
	EsSchemaNode *names;		/* of "propertyNames"; or NULL */
} EsObjectRules;

/* Subschemas about the same value. */
typedef struct EsApplied
{
	EsSchemaNode *ref;			/* or NULL, as all that follow */
	EsSchemaNode *dynamic_ref;
	EsSchemaList all_of;
	EsSchemaList any_of;		/* count 0: there is no such keyword */
	EsSchemaList one_of;
	EsSchemaNode *not_schema;
	EsSchemaNode *if_schema;
	EsSchemaNode *then_schema;
	EsSchemaNode *else_schema;
} EsApplied;

/*
 * A subschema.  What it has no rules for is NULL, so {} has types ES_TYPE_ANY and
 * nothing else, as true does; false has no types and "refuses" set.
 */
struct EsSchemaNode
{
	uint8		types;			/* ES_TYPE_... that it lets pass */
	bool		refuses;		/* it is the schema false */
	bool		shared;			/* more than one way leads here */
	bool		evaluates;		/* it may evaluate members or elements of the
								 * value that it is about */
	uint32		number;			/* from 0, each has its own */
	const EsValueSet *enumeration;
	const EsNode *constant;
	const EsNumberRules *numbers;
	const EsStringRules *strings;
	const EsArrayRules *arrays;
	const EsObjectRules *objects;
	const EsApplied *applied;
	EsSchemaNode *unevaluated_items;
	EsSchemaNode *unevaluated_properties;
	const EsPointer *place;		/* in the schema, see es_pointer_text */
};

/* A schema.  See compile.h for making one. */
typedef struct EsSchema
{
	EsSchemaNode *root;
} EsSchema;

#endif							/* ES_SCHEMA_MODEL_H */
