/*
 * uri.h
 *		References to schemas, resolved as RFC 3986 has it.
 */
#ifndef ES_SCHEMA_URI_H
#define ES_SCHEMA_URI_H

#include "base/base.h"

#define ES_MOST_URI		2000	/* bytes of one that is resolved; else a base
								 * could be written anew for each of very many
								 * identifiers */

#define ES_URI_TOO_LONG "is longer than 2000 bytes as it is resolved"

/*
 * es_uri_resolve resolves a reference against a base: the URI without its fragment, in
 * the current memory context.  *fragment becomes what comes after '#', with its
 * escapes undone; "" if there is nothing, NULL if that is no text of the server's encoding.
 */
extern char *es_uri_resolve(const char *base, const char *reference, char **fragment);

#endif							/* ES_SCHEMA_URI_H */
