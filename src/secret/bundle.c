/*
 * bundle.c
 *		Values made of protected fields, encrypted under the keys of all these fields.
 *
 * The key of a bundle is made of all its keys, one after the other, and of its scope: what
 * states it may be one of.  So who lacks one of the keys lacks it, and no bundle is opened as
 * one of another scope.  Nothing else is kept that would open it.
 *
 * A bundle is text, in base64: a version, the number of keys, their ids, the nonce, the
 * encrypted value as JSON in UTF-8, the tag.  All before the nonce is authenticated with it.
 *
 * Whoever makes one may find that a key has been shredded meanwhile.  Then it ends behind
 * the ids: it is a bundle that cannot be opened, as it would be a moment later.
 */
#include "secret/bundle.h"

#include "port/pg_bswap.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/inval.h"
#include "utils/jsonb.h"

#include "base/error.h"
#include "json/pack.h"
#include "secret/base64.h"
#include "secret/cipher.h"
#include "secret/subject.h"
#include "secret/utf8.h"

#define BUNDLE_VERSION	1
#define KEYS_AT			(1 + sizeof(uint32))	/* behind the version and the
												 * number */

/* A bundle, decoded. */
typedef struct Bundle
{
	uint8	   *bytes;
	int			len;
	int			count;			/* of keys */
	int			header;			/* bytes before the nonce */
} Bundle;

/* Orders keys. */
static int
compare_key_ids(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(pg_uuid_t));
}

/* es_bundle_add_key adds a key; see bundle.h. */
void
es_bundle_add_key(EsKeyring *ring, const pg_uuid_t *id)
{
	int			low = 0;
	int			high = ring->count;

	while (low < high)
	{
		int			middle = (low + high) / 2;
		int			order = compare_key_ids(&ring->ids[middle], id);

		if (order == 0)
			return;
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	if (ring->count == ring->room)
	{
		ring->room = Max(2 * ring->room, 4);
		ring->ids = ring->ids == NULL ? palloc(ring->room * sizeof(pg_uuid_t)) :
			repalloc(ring->ids, ring->room * sizeof(pg_uuid_t));
	}
	memmove(&ring->ids[low + 1], &ring->ids[low], (ring->count - low) * sizeof(pg_uuid_t));
	ring->ids[low] = *id;
	ring->count++;
}

/* Raises VE008. */
ES_NORETURN static void
report_bad_bundle(void)
{
	ereport(ERROR,
			errcode(ES_ERRCODE_STORE_CORRUPT),
			errmsg("an encrypted state cannot be read as it was written"),
			errhint("Rebuild the projection with es_rebuild_projection, or drop the snapshots with es_drop_snapshots."));
}

/* Makes the key of a bundle; false if one of its keys is shredded. */
static bool
make_bundle_key(const pg_uuid_t *ids, int count, const char *scope, uint8 *key)
{
	int			len = strlen(scope);

	scope = es_utf8_of(scope, &len);
	es_cipher_digest(scope, len, key);
	for (int i = 0; i < count; i++)
	{
		EsSubjectKey subject = es_subject_find_key(&ids[i], true);

		CHECK_FOR_INTERRUPTS();
		if (subject.state == ES_KEY_SHREDDED)
			return false;
		if (subject.state != ES_KEY_LIVE)
			report_bad_bundle();
		es_cipher_authenticate(subject.key, key, ES_CIPHER_DIGEST, key);
	}
	return true;
}

/* ---- as text ---- */

/* Makes text of a bundle. */
static text *
encode_bundle(const Bundle *bundle)
{
	Size		len = es_base64_encoded_len(bundle->len);
	text	   *encoded = palloc(VARHDRSZ + len);

	es_base64_encode(bundle->bytes, bundle->len, VARDATA(encoded));
	SET_VARSIZE(encoded, VARHDRSZ + len);
	return encoded;
}

/* Takes the text of a bundle apart. */
static Bundle
decode_bundle(const text *sealed)
{
	Size		len = VARSIZE_ANY_EXHDR(sealed);
	Bundle		bundle = {.bytes = palloc(es_base64_decoded_len(len) + 1)};
	uint32		count;

	bundle.len = es_base64_decode(VARDATA_ANY(sealed), len, bundle.bytes);
	if (bundle.len < (int) KEYS_AT || bundle.bytes[0] != BUNDLE_VERSION)
		report_bad_bundle();
	memcpy(&count, bundle.bytes + 1, sizeof(count));
	count = pg_ntoh32(count);
	if (count == 0 || count > (bundle.len - KEYS_AT) / sizeof(pg_uuid_t))
		report_bad_bundle();
	bundle.count = count;
	bundle.header = KEYS_AT + count * sizeof(pg_uuid_t);
	if (bundle.len < bundle.header)
		report_bad_bundle();
	return bundle;
}

/* The ids of a bundle's keys. */
static const pg_uuid_t *
keys_of_bundle(const Bundle *bundle)
{
	return (const pg_uuid_t *) (bundle->bytes + KEYS_AT);
}

/* ---- encrypting ---- */

/* Makes a bundle with room for so many bytes. */
static Bundle
begin_bundle(const EsKeyring *ring, int len)
{
	Bundle		bundle = {.count = ring->count};
	uint32		count = pg_hton32(ring->count);

	bundle.header = bundle.len = KEYS_AT + ring->count * sizeof(pg_uuid_t);
	bundle.bytes = palloc(bundle.header + ES_CIPHER_NONCE + len + ES_CIPHER_TAG);
	bundle.bytes[0] = BUNDLE_VERSION;
	memcpy(bundle.bytes + 1, &count, sizeof(count));
	memcpy(bundle.bytes + KEYS_AT, ring->ids, ring->count * sizeof(pg_uuid_t));
	return bundle;
}

/* The message that a bundle has, len bytes long, between the nonce and the tag. */
static EsCipherMessage
message_of_bundle(const Bundle *bundle, int len)
{
	EsCipherMessage message = {.header = bundle->bytes,.header_len = bundle->header,.len = len};

	message.nonce = bundle->bytes + bundle->header;
	message.tag = message.nonce + ES_CIPHER_NONCE + len;
	return message;
}

/* es_bundle_seal encrypts a value; see bundle.h. */
text *
es_bundle_seal(const EsKeyring *ring, const char *scope, EsNode *value)
{
	Jsonb	   *json = es_pack_jsonb(value);
	const char *plain = JsonbToCString(NULL, &json->root, VARSIZE(json));
	int			len = strlen(plain);
	uint8		key[ES_CIPHER_DIGEST];
	Bundle		bundle;

	/* whatever is shredded by now should not be used */
	AcceptInvalidationMessages();
	plain = es_utf8_of(plain, &len);
	bundle = begin_bundle(ring, len);
	if (make_bundle_key(keys_of_bundle(&bundle), bundle.count, scope, key))
	{
		EsCipherMessage message = message_of_bundle(&bundle, len);

		message.input = (const uint8 *) plain;
		message.output = message.nonce + ES_CIPHER_NONCE;
		es_cipher_encrypt(key, &message);
		bundle.len += ES_CIPHER_NONCE + len + ES_CIPHER_TAG;
	}
	explicit_bzero(key, sizeof(key));
	return encode_bundle(&bundle);
}

/* ---- decrypting ---- */

/* Decrypts what a bundle has, under its key. */
static EsNode
open_bundle_value(const Bundle *bundle, const uint8 *key)
{
	int			len = bundle->len - bundle->header - ES_CIPHER_NONCE - ES_CIPHER_TAG;
	EsCipherMessage message;
	uint8	   *plain;
	const char *json;

	if (len < 0)
		report_bad_bundle();
	plain = palloc(len + 1);
	message = message_of_bundle(bundle, len);
	message.input = message.nonce + ES_CIPHER_NONCE;
	message.output = plain;
	if (!es_cipher_decrypt(key, &message))
		report_bad_bundle();
	plain[len] = '\0';
	json = es_utf8_to_server((const char *) plain, &len);
	return es_node_view(DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(json))));
}

/* es_bundle_open decrypts a value; see bundle.h. */
bool
es_bundle_open(const text *sealed, const char *scope, EsKeyring *ring, EsNode *value)
{
	Bundle		bundle = decode_bundle(sealed);
	uint8		key[ES_CIPHER_DIGEST];
	bool		live = make_bundle_key(keys_of_bundle(&bundle), bundle.count, scope, key);

	if (live)
	{
		*value = open_bundle_value(&bundle, key);
		for (int i = 0; i < bundle.count; i++)
			es_bundle_add_key(ring, &keys_of_bundle(&bundle)[i]);
	}
	explicit_bzero(key, sizeof(key));
	return live;
}

/* es_bundle_can_open tells whether a value can be decrypted; see bundle.h. */
bool
es_bundle_can_open(const text *sealed)
{
	Bundle		bundle = decode_bundle(sealed);
	bool		can = true;

	for (int i = 0; i < bundle.count && can; i++)
		can = es_subject_find_key(&keys_of_bundle(&bundle)[i], false).state != ES_KEY_SHREDDED;
	pfree(bundle.bytes);
	return can;
}

/* es_bundle_is_under tells whether a value is under one of some keys. */
bool
es_bundle_is_under(const text *sealed, const EsKeyring *ring)
{
	Bundle		bundle = decode_bundle(sealed);
	bool		found = false;

	for (int i = 0; i < bundle.count && !found; i++)
		found = bsearch(&keys_of_bundle(&bundle)[i], ring->ids, ring->count, sizeof(pg_uuid_t), compare_key_ids) != NULL;
	pfree(bundle.bytes);
	return found;
}
