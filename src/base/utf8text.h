/*
 * utf8text.h
 *		Text in UTF-8, whatever the database's encoding is.
 */
#ifndef ES_BASE_UTF8TEXT_H
#define ES_BASE_UTF8TEXT_H

#include "base/base.h"

#include "lib/stringinfo.h"

/* es_utf8text_is_needed tells whether some text of the database's is another in UTF-8. */
extern bool es_utf8text_is_needed(const char *bytes, int len);

/* es_utf8text_append appends a text of the database's in UTF-8. */
extern void es_utf8text_append(StringInfo out, const char *bytes, int len);

#endif							/* ES_BASE_UTF8TEXT_H */
