/*
 * wrap.h
 *		Keys of subjects as they are stored: wrapped by the master key.
 */
#ifndef ES_SECRET_WRAP_H
#define ES_SECRET_WRAP_H

#include "base/base.h"

#include "utils/uuid.h"

typedef enum EsSubjectKind
{
	ES_SUBJECT_PLAIN,
	ES_SUBJECT_HASHED,			/* the name is a keyed hash of the subject */
	ES_SUBJECT_NONE				/* the key of these hashes */
} EsSubjectKind;

#define ES_SUBJECT_KINDS	(ES_SUBJECT_NONE + 1)

/* Keys as they are stored. */
typedef struct EsWrappedKey
{
	pg_uuid_t	id;
	EsSubjectKind kind;
	const text *subject;
	bytea	   *wrapped;
} EsWrappedKey;

extern bytea *es_wrap_key(const EsWrappedKey *key, const uint8 *plain, const uint8 *wrapping);
extern bool es_wrap_open(const EsWrappedKey *key, uint8 *plain, const uint8 *wrapping);

#endif							/* ES_SECRET_WRAP_H */
