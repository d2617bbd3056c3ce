/*
 * compat.h
 *		Whether one version of a schema accepts what another one does.
 */
#ifndef ES_SCHEMA_COMPAT_H
#define ES_SCHEMA_COMPAT_H

#include "base/base.h"

#include "utils/jsonb.h"

/* What a new version promises to those who know the old one. */
typedef enum EsCompatibility
{
	ES_COMPATIBILITY_NONE,
	ES_COMPATIBILITY_BACKWARD,	/* the new one accepts what the old one does */
	ES_COMPATIBILITY_FORWARD,	/* the old one accepts what the new one does */
	ES_COMPATIBILITY_FULL		/* both */
} EsCompatibility;

/* Why a version does not keep its promise, or is not known to. */
typedef struct EsIncompatibility
{
	const char *pointer;		/* to the schema that may refuse, RFC 6901 */
	const char *rule;			/* its keyword */
	const char *message;		/* a sentence without a full stop */
	bool		forward;		/* the schema is part of the old version,
								 * otherwise of the new one */
	bool		decided;		/* false: it may be compatible, but that was
								 * not found out */
} EsIncompatibility;

extern EsCompatibility es_compat_from_name(const text *name);
extern List *es_compat_compare(const Jsonb *old, bool stored, const Jsonb *new, EsCompatibility compatibility);

#endif							/* ES_SCHEMA_COMPAT_H */
