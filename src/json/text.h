/*
 * text.h
 *		Writing JSON text, faster than the server's own functions do.
 */
#ifndef ES_JSON_TEXT_H
#define ES_JSON_TEXT_H

#include "base/base.h"

#include "datatype/timestamp.h"
#include "lib/stringinfo.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

extern void es_jsontext_string(StringInfo out, const char *data, int len);
extern int	es_jsontext_escapes(const char *data, int len);
extern int	es_jsontext_time(char *buf, TimestampTz time);
extern void es_jsontext_quoted_time(StringInfo out, TimestampTz time);
extern void es_jsontext_integer(StringInfo out, int64 value);
extern void es_jsontext_uuid(StringInfo out, const pg_uuid_t *uuid);
extern void es_jsontext_text(StringInfo out, Datum value);
extern void es_jsontext_jsonb(StringInfo out, Jsonb *json);

#endif							/* ES_JSON_TEXT_H */
