/*
 * subject.h
 *		Subjects and their keys.
 */
#ifndef ES_SECRET_SUBJECT_H
#define ES_SECRET_SUBJECT_H

#include "base/base.h"

#include "utils/uuid.h"

#include "base/objects.h"
#include "table/columns.h"

/* Columns of eventstore.subjects. */
#define Anum_subjects_created_at	1
#define Anum_subjects_shredded_at	2
#define Anum_subjects_fingerprint	3
#define Anum_subjects_kind			4
#define Anum_subjects_key_id		5
#define Anum_subjects_subject		6
#define Anum_subjects_wrapped		7
#define Natts_subjects				7

typedef enum EsSubjectKind
{
	ES_SUBJECT_PLAIN,
	ES_SUBJECT_HASHED,			/* the name is a keyed hash of the subject */
	ES_SUBJECT_NONE				/* the key of these hashes */
} EsSubjectKind;

/* What is known of a key. */
typedef enum EsKeyFate
{
	ES_KEY_LIVE,
	ES_KEY_SHREDDED,
	ES_KEY_MISSING,				/* there is no such key */
	ES_KEY_AWAY					/* the master key is not at hand */
} EsKeyFate;

/* A key, good until the next call here. */
typedef struct EsSubjectKey
{
	EsKeyFate	state;
	pg_uuid_t	id;
	const uint8 *key;			/* LIVE; in the arena */
} EsSubjectKey;

extern EsRelation es_subject_table; /* eventstore.subjects */
extern const EsShape es_subject_shape;	/* by key_id */
extern const EsShape es_subject_name_shape; /* by subject and kind */

extern void es_subject_init(void);
extern EsSubjectKey es_subject_find_key(const pg_uuid_t *id, bool may_ask);
extern EsSubjectKey es_subject_key_of(const text *subject, bool hashed);
extern text *es_subject_hash(const text *subject);
extern void es_subject_require_master(void);

/* Keys as they are stored. */
typedef struct EsWrappedKey
{
	pg_uuid_t	id;
	EsSubjectKind kind;
	const text *subject;
	bytea	   *wrapped;
} EsWrappedKey;

extern bytea *es_subject_wrap(const EsWrappedKey *key, const uint8 *plain, const uint8 *wrapping);
extern bool es_subject_unwrap(const EsWrappedKey *key, uint8 *plain, const uint8 *wrapping);

#endif							/* ES_SECRET_SUBJECT_H */
