/*
 * field.h
 *		Protected fields of events: encrypted, and given out.
 *
 * An event is stored with each protected field as a JSON string that begins with
 * ES_ENVELOPE_MARKER.  Whoever gives events to readers with the right calls es_field_reveal;
 * who has a state that has such strings in it, es_field_open_all.
 */
#ifndef ES_SECRET_FIELD_H
#define ES_SECRET_FIELD_H

#include "base/base.h"

#include "utils/uuid.h"

#include "base/event.h"
#include "base/names.h"
#include "secret/protection.h"

/* What became of a new event's data. */
typedef enum EsFieldResult
{
	ES_FIELD_NONE,				/* no protected field is in them */
	ES_FIELD_DONE,
	ES_FIELD_SHREDDED,			/* the subject is shredded */
	ES_FIELD_AWAY				/* the master key is not at hand */
} EsFieldResult;

/* Whether a new event's protected fields are somebody's. */
typedef enum EsFieldSubject
{
	ES_FIELD_SUBJECT_GOOD,		/* or there are no such fields */
	ES_FIELD_SUBJECT_MISSING,
	ES_FIELD_SUBJECT_SHREDDED
} EsFieldSubject;

extern EsFieldSubject es_field_judge_subject(const EsEvent *event, const EsProtection *protection);
extern EsFieldResult es_field_encrypt(EsEvent *event, const EsProtected *category, const EsProtection *protection);
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

/* Who wants to know which keys values were under. */
typedef void (*EsFieldNote) (const pg_uuid_t *key_id, void *arg);

/* es_field_reveal_noting is es_field_reveal; note is told the key of each field that is opened. */
extern bool es_field_reveal_noting(EsEvent *event, EsFieldNote note, void *arg);

/*
 * es_field_open_all gives a jsonb with each encrypted field of events of some categories, as
 * it was stored, opened, wherever in it that is; null if the key is shredded.  Strings that
 * only look like one stay.  note may be NULL.
 */
extern Datum es_field_open_all(Datum json, const EsNames *categories, EsFieldNote note, void *arg);

#endif							/* ES_SECRET_FIELD_H */
