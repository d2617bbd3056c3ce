/*
 * wrap.c
 *		Keys of subjects as they are stored: wrapped by the master key.
 *
 * Wrapped is encrypted with AES-256-GCM under the key that masterkey.c makes for it.  What the key
 * is for is authenticated with it, so that no row's key can be put into another's.
 */
#include "secret/wrap.h"

#include "secret/cipher.h"
#include "secret/utf8.h"

#define WRAP_VERSION	1
#define WRAPPED_BYTES	(ES_CIPHER_NONCE + ES_CIPHER_KEY + ES_CIPHER_TAG)

/* Makes what is authenticated with a wrapped key: what the key is for. */
static char *
make_wrap_header(const EsWrappedKey *key, int *header_len)
{
	int			len = VARSIZE_ANY_EXHDR(key->subject);
	const char *subject = es_utf8_of(VARDATA_ANY(key->subject), &len);
	char	   *header = palloc(2 + UUID_LEN + len);

	header[0] = WRAP_VERSION;
	header[1] = (char) key->kind;
	memcpy(header + 2, key->id.data, UUID_LEN);
	memcpy(header + 2 + UUID_LEN, subject, len);
	*header_len = 2 + UUID_LEN + len;
	return header;
}

/* es_wrap_key gives a key wrapped, in the current memory context. */
bytea *
es_wrap_key(const EsWrappedKey *key, const uint8 *plain, const uint8 *wrapping)
{
	bytea	   *wrapped = palloc(VARHDRSZ + WRAPPED_BYTES);
	uint8	   *bytes = (uint8 *) VARDATA(wrapped);
	EsCipherMessage message = {.nonce = bytes,.input = plain,.output = bytes + ES_CIPHER_NONCE,.len = ES_CIPHER_KEY,
	.tag = bytes + ES_CIPHER_NONCE + ES_CIPHER_KEY};

	SET_VARSIZE(wrapped, VARHDRSZ + WRAPPED_BYTES);
	message.header = make_wrap_header(key, &message.header_len);
	es_cipher_encrypt(wrapping, &message);
	return wrapped;
}

/* es_wrap_open unwraps a key; false if it is not as it was wrapped. */
bool
es_wrap_open(const EsWrappedKey *key, uint8 *plain, const uint8 *wrapping)
{
	uint8	   *bytes = (uint8 *) VARDATA_ANY(key->wrapped);
	EsCipherMessage message = {.nonce = bytes,.input = bytes + ES_CIPHER_NONCE,.output = plain,.len = ES_CIPHER_KEY,
	.tag = bytes + ES_CIPHER_NONCE + ES_CIPHER_KEY};

	if (VARSIZE_ANY_EXHDR(key->wrapped) != WRAPPED_BYTES)
		return false;
	message.header = make_wrap_header(key, &message.header_len);
	return es_cipher_decrypt(wrapping, &message);
}
