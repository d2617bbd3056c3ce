/*
 * uri.h
 *		References to schemas, resolved as RFC 3986 has it.
 */
#ifndef ES_SCHEMA_URI_H
#define ES_SCHEMA_URI_H

#include "base/base.h"

/*
 * es_uri_resolve resolves a reference against a base: the URI without its fragment, in
 * the current memory context.  *fragment becomes what comes after '#', with its
 * escapes undone; "" if there is nothing.
 */
extern char *es_uri_resolve(const char *base, const char *reference, char **fragment);

#endif							/* ES_SCHEMA_URI_H */
