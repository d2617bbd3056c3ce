/*
 * likeness.h
 *		Schemas that say the same in the same way.
 */
#ifndef ES_SCHEMA_LIKENESS_H
#define ES_SCHEMA_LIKENESS_H

#include "base/base.h"

#include "schema/model.h"
#include "schema/effort.h"

extern bool es_likeness_check(const EsSchemaNode *a, const EsSchemaNode *b, EsEffort *effort);

#endif							/* ES_SCHEMA_LIKENESS_H */
