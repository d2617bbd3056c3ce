/*
 * uuid7.h
 *		UUIDs, version 7 (RFC 9562).
 */
#ifndef ES_BASE_UUID7_H
#define ES_BASE_UUID7_H

#include "base/base.h"

#include "utils/uuid.h"

extern void es_uuid7_make(pg_uuid_t *uuid);
extern char *es_uuid7_show(const pg_uuid_t *uuid);
extern bool es_uuid7_read(const char *string, int len, pg_uuid_t *uuid);

#endif							/* ES_BASE_UUID7_H */
