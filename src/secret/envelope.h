/*
 * envelope.h
 *		An encrypted value as a JSON string.
 */
#ifndef ES_SECRET_ENVELOPE_H
#define ES_SECRET_ENVELOPE_H

#include "base/base.h"

#include "utils/uuid.h"

#include "json/node.h"

/* What each of these strings begins with. */
#define ES_ENVELOPE_MARKER		"$secret:"
#define ES_ENVELOPE_VERSION		1	/* of this form of them */
#define ES_ENVELOPE_CATEGORY	8	/* bytes of a digest of its category */
#define ES_ENVELOPE_CONTEXT		16	/* bytes of a digest of where a field is */

/* What is not encrypted, but authenticated; the bytes of it are these, in this order. */
typedef struct EsEnvelopeHeader
{
	uint8		version;
	uint8		key_id[UUID_LEN];
	uint8		event_id[UUID_LEN];
	uint8		category[ES_ENVELOPE_CATEGORY];
	uint8		context[ES_ENVELOPE_CONTEXT];
} EsEnvelopeHeader;

/* An encrypted value, taken apart. */
typedef struct EsEnvelope
{
	EsEnvelopeHeader header;
	uint8	   *nonce;
	uint8	   *content;
	int			len;			/* of the content */
	uint8	   *tag;
} EsEnvelope;

extern bool es_envelope_is_marked(const EsNode *node);
extern bool es_envelope_parse(const char *bytes, int len, EsEnvelope *envelope);
extern EsNode es_envelope_seal(const EsEnvelopeHeader *header, const uint8 *key, const EsNode *value);
extern bool es_envelope_open(const EsEnvelope *envelope, const uint8 *key, EsNode *value);

#endif							/* ES_SECRET_ENVELOPE_H */
