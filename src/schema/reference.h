/*
 * reference.h
 *		The references of a schema, and what they lead to.
 */
#ifndef ES_SCHEMA_REFERENCE_H
#define ES_SCHEMA_REFERENCE_H

#include "base/base.h"

#include "schema/survey.h"

/*
 * es_reference_resolve_all finds what each $ref and $dynamicRef of a schema leads to, and
 * takes in what that adds to it; 22023 if there is nothing.
 */
extern void es_reference_resolve_all(EsSurvey *survey);

#endif							/* ES_SCHEMA_REFERENCE_H */
