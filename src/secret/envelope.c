/*
 * envelope.c
 *		An encrypted value as a JSON string.
 *
 * The string is the marker and, in base64: the header, a nonce, the content, encrypted with
 * AES-256-GCM, and a tag that authenticates both.  The header says which key it is under and,
 * of a field, of which event and where in it, so that it is that field's and no other's; the
 * place is there as a digest.  Content is a letter and then the value: "s", a string's
 * characters; "j", the JSON text of anything else.  Both are in UTF-8.
 */
#include "secret/envelope.h"

#include "lib/stringinfo.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"

#include "json/pack.h"
#include "json/size.h"
#include "json/text.h"
#include "secret/base64.h"
#include "secret/cipher.h"
#include "secret/utf8.h"

#define MARKER_BYTES	(sizeof(ES_ENVELOPE_MARKER) - 1)
#define HEADER_BYTES	sizeof(EsEnvelopeHeader)
#define FIXED_BYTES		(HEADER_BYTES + ES_CIPHER_NONCE + ES_CIPHER_TAG)
#define CONTENT_STRING	's'
#define CONTENT_JSON	'j'

/* es_envelope_is_marked tells whether a value is a string that begins with the marker. */
bool
es_envelope_is_marked(const EsNode *node)
{
	return node->kind == ES_NODE_STRING && node->len >= MARKER_BYTES &&
		memcmp(node->value.bytes, ES_ENVELOPE_MARKER, MARKER_BYTES) == 0;
}

/*
 * es_envelope_parse takes a string apart, in the current memory context; false if it is none of
 * ours.
 */
bool
es_envelope_parse(const char *bytes, int len, EsEnvelope *envelope)
{
	uint8	   *decoded;
	int			count;

	StaticAssertStmt(HEADER_BYTES == 1 + 2 * UUID_LEN + ES_ENVELOPE_CATEGORY + ES_ENVELOPE_CONTEXT, "a header has no padding");
	if (len < MARKER_BYTES || memcmp(bytes, ES_ENVELOPE_MARKER, MARKER_BYTES) != 0)
		return false;
	bytes += MARKER_BYTES;
	len -= MARKER_BYTES;
	/* one byte more than the content, so that it can be ended with a zero */
	decoded = palloc(es_base64_decoded_len(len) + 1);
	count = es_base64_decode(bytes, len, decoded);
	if (count <= (int) FIXED_BYTES || decoded[0] != ES_ENVELOPE_VERSION)
	{
		pfree(decoded);
		return false;
	}
	memcpy(&envelope->header, decoded, HEADER_BYTES);
	envelope->nonce = decoded + HEADER_BYTES;
	envelope->content = envelope->nonce + ES_CIPHER_NONCE;
	envelope->len = count - FIXED_BYTES;
	envelope->tag = envelope->content + envelope->len;
	return true;
}

/* Makes the content of a value. */
static char *
make_content(const EsNode *value, int *len)
{
	StringInfoData json;
	EsNode		copy = *value;
	const char *bytes = value->value.bytes;
	char	   *content;

	*len = value->len;
	if (value->kind != ES_NODE_STRING)
	{
		initStringInfo(&json);
		es_jsontext_jsonb(&json, es_pack_jsonb(&copy));
		bytes = json.data;
		*len = json.len;
	}
	bytes = es_utf8_of(bytes, len);
	content = palloc(*len + 1);
	content[0] = value->kind == ES_NODE_STRING ? CONTENT_STRING : CONTENT_JSON;
	memcpy(content + 1, bytes, *len);
	(*len)++;
	return content;
}

/* Raises 54000 for what is too long when it is encrypted. */
static void
check_sealed_length(int64 len)
{
	if (len > ES_MOST_TEXT)
		ereport(ERROR,
				errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				errmsg("protected field is too large"),
				errdetail("Encrypted, its JSON text is longer than %d bytes.", ES_MOST_TEXT),
				errhint("Keep large contents elsewhere and name the place in the event."));
}

/* es_envelope_seal encrypts a value; the string is in the current memory context. */
EsNode
es_envelope_seal(const EsEnvelopeHeader *header, const uint8 *key, const EsNode *value)
{
	int			len;
	char	   *content = make_content(value, &len);
	int64		size = (int64) len + FIXED_BYTES;
	uint8	   *bytes;
	char	   *sealed;
	EsCipherMessage message = {.header = header,.header_len = HEADER_BYTES,.input = (uint8 *) content,.len = len};

	check_sealed_length(MARKER_BYTES + (int64) es_base64_encoded_len(size));
	bytes = palloc(size);
	memcpy(bytes, header, HEADER_BYTES);
	message.nonce = bytes + HEADER_BYTES;
	message.output = message.nonce + ES_CIPHER_NONCE;
	message.tag = message.output + len;
	es_cipher_encrypt(key, &message);
	pfree(content);
	sealed = palloc(MARKER_BYTES + es_base64_encoded_len(size));
	memcpy(sealed, ES_ENVELOPE_MARKER, MARKER_BYTES);
	es_base64_encode(bytes, size, sealed + MARKER_BYTES);
	pfree(bytes);
	return es_node_view_string(sealed, MARKER_BYTES + es_base64_encoded_len(size));
}

/* Makes the value of a content, which is followed by a byte that may be changed. */
static bool
read_content(char *content, int len, EsNode *value)
{
	int			rest = len - 1;
	const char *bytes = content + 1;

	content[len] = '\0';
	bytes = es_utf8_to_server(bytes, &rest);
	if (content[0] == CONTENT_STRING)
		*value = es_node_view_string(bytes, rest);
	else if (content[0] == CONTENT_JSON)
		*value = es_node_view(DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(bytes))));
	else
		return false;
	return true;
}

/*
 * es_envelope_open decrypts a value, in the place of what was encrypted; false if that was
 * not encrypted under this key, with this header.
 */
bool
es_envelope_open(const EsEnvelope *envelope, const uint8 *key, EsNode *value)
{
	EsCipherMessage message = {.header = &envelope->header,.header_len = HEADER_BYTES,.nonce = envelope->nonce,
	.input = envelope->content,.output = envelope->content,.len = envelope->len,.tag = envelope->tag};

	return es_cipher_decrypt(key, &message) && read_content((char *) envelope->content, envelope->len, value);
}
