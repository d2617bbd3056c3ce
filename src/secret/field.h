/*
 * field.h
 *		Protected fields of events: encrypted, and given out.
 *
 * An event is stored with each protected field as a JSON string that begins with
 * ES_ENVELOPE_MARKER.  Whoever gives events to readers with the right calls es_field_reveal;
 * who has only such a string, of a state say, calls es_field_open.
 */
#ifndef ES_SECRET_FIELD_H
#define ES_SECRET_FIELD_H

#include "base/base.h"

#include "utils/uuid.h"

#include "base/event.h"
#include "json/node.h"
#include "secret/protection.h"

/* What became of a new event's data. */
typedef enum EsFieldResult
{
	ES_FIELD_NONE,				/* no protected field is in them */
	ES_FIELD_DONE,
	ES_FIELD_SHREDDED,			/* the subject is shredded */
	ES_FIELD_AWAY				/* the master key is not at hand */
} EsFieldResult;

extern EsFieldResult es_field_encrypt(EsEvent *event, const EsProtection *protection);
extern void es_field_check_plain(const EsEvent *event, const EsProtected *category, const EsProtection *protection);
extern EsFieldResult es_field_reveal_stored(EsEvent *stored, Datum *given, bool may_ask);

/*
 * es_field_reveal gives an event, as it is stored, its plain data; false if it has no
 * protected field.  What a shredded subject's key protects is null.  55000 without the
 * master key, VE008 for what is not as it was encrypted.  What is new is in the current
 * memory context.
 */
extern bool es_field_reveal_protected(EsEvent *event);

static inline bool
es_field_reveal(EsEvent *event)
{
	return unlikely(es_protection_any()) && es_field_reveal_protected(event);
}

extern Datum es_field_reveal_data(text *stream, text *type, Datum data);

/*
 * es_field_key_of tells whether a string has the form of an encrypted value, and which key
 * that is under.
 */
extern bool es_field_key_of(const EsNode *string, pg_uuid_t *key_id);

/*
 * es_field_open gives the value of an encrypted value by its string alone, wherever that is
 * now; null if the key is shredded.  False for a string that has not the form of one.  The
 * value is in the current memory context.
 */
extern bool es_field_open(const EsNode *string, EsNode *value);

/*
 * es_field_seal encrypts a value that was made of fields under a key, so that es_field_open
 * gives it; null if the key is shredded.  To put a value under several keys, encrypt the result
 * again.  The string is in the current memory context.
 */
extern EsNode es_field_seal(const pg_uuid_t *key_id, const EsNode *value);

/* es_field_open_all gives a jsonb with each such string in it, at any depth, opened. */
extern Datum es_field_open_all(Datum json);

#endif							/* ES_SECRET_FIELD_H */
