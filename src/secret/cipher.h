/*
 * cipher.h
 *		AES-256-GCM, HMAC-SHA-256 and random bytes, by OpenSSL.
 */
#ifndef ES_SECRET_CIPHER_H
#define ES_SECRET_CIPHER_H

#include "base/base.h"

#define ES_CIPHER_KEY		32	/* bytes */
#define ES_CIPHER_NONCE		12
#define ES_CIPHER_TAG		16
#define ES_CIPHER_DIGEST	32

/* A message, encrypted or to be. */
typedef struct EsCipherMessage
{
	const void *header;			/* authenticated with it, not encrypted */
	int			header_len;
	uint8	   *nonce;			/* made, or given to decrypt */
	const uint8 *input;
	uint8	   *output;			/* as long as the input */
	int			len;
	uint8	   *tag;			/* made, or given to decrypt */
} EsCipherMessage;

extern void es_cipher_make_key(uint8 *key);
extern void es_cipher_encrypt(const uint8 *key, const EsCipherMessage *message);
extern bool es_cipher_decrypt(const uint8 *key, const EsCipherMessage *message);
extern void es_cipher_digest(const void *data, Size len, uint8 *digest);
extern void es_cipher_authenticate(const uint8 *key, const void *data, Size len, uint8 *code);

#endif							/* ES_SECRET_CIPHER_H */
