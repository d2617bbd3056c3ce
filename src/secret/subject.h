/*
 * subject.h
 *		Subjects and their keys.
 */
#ifndef ES_SECRET_SUBJECT_H
#define ES_SECRET_SUBJECT_H

#include "base/base.h"

#include "utils/uuid.h"

#include "secret/wrap.h"
#include "table/columns.h"
#include "table/rows.h"

/* Columns of eventstore.subjects. */
#define Anum_subjects_created_at	1
#define Anum_subjects_shredded_at	2
#define Anum_subjects_fingerprint	3
#define Anum_subjects_kind			4
#define Anum_subjects_key_id		5
#define Anum_subjects_subject		6
#define Anum_subjects_wrapped		7
#define Natts_subjects				7

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

extern const EsShape es_subject_shape;	/* by key_id */

extern EsSubjectKey es_subject_find_key(const pg_uuid_t *id, bool may_ask);
extern EsSubjectKey es_subject_key_of(const text *subject, bool hashed);
extern bool es_subject_is_shredded(const text *subject, bool hashed);
extern text *es_subject_hash(const text *subject);
extern void es_subject_require_master(void);
extern void es_subject_begin_rows(EsRows *rows, const text *name);
extern bool es_subject_next_row(EsRows *rows, EsSubjectKind kind);

#endif							/* ES_SECRET_SUBJECT_H */
