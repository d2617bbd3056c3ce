/*
 * cipher.c
 *		AES-256-GCM, HMAC-SHA-256 and random bytes, by OpenSSL.
 *
 * What OpenSSL has to look up for an algorithm is looked up once a process, when it is
 * first needed.  A context keeps a key in a form of its own, in memory that is not that
 * of arena.c; so after each message a key of zeros takes its place.
 *
 * Nonces need not be secret, only never come twice under a key: they are taken from
 * random bytes that are made for many at once, by the process that uses them.
 */
#include "secret/cipher.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>

#include "miscadmin.h"

#if defined(OPENSSL_VERSION_NUMBER) && OPENSSL_VERSION_NUMBER < 0x30000000L
#error "eventstore needs OpenSSL 3.0 or later"
#endif

#define NONCES	64				/* made at once */

static struct
{
	EVP_CIPHER_CTX *encrypting;
	EVP_CIPHER_CTX *decrypting;
	EVP_MD	   *digest;
	EVP_MD_CTX *digesting;
	EVP_MAC    *mac;
}			algorithms;

static uint8 nonces[NONCES][ES_CIPHER_NONCE];
static int	next_nonce = NONCES;
static int	nonces_of = 0;		/* the process that has made them */

/* Raises an error: OpenSSL failed. */
ES_NORETURN static void
report_openssl(const char *what)
{
	unsigned long code = ERR_get_error();
	const char *reason = code != 0 ? ERR_reason_error_string(code) : NULL;

	ERR_clear_error();
	ereport(ERROR,
			errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
			errmsg("call of OpenSSL failed"),
			reason ? errdetail("It could not %s: %s.", what, reason) : errdetail("It could not %s.", what));
}

/* Makes what a process keeps to encrypt or to decrypt. */
static EVP_CIPHER_CTX *
make_cipher_context(bool encrypts)
{
	EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
	EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();

	if (cipher == NULL || context == NULL || EVP_CipherInit_ex2(context, cipher, NULL, NULL, encrypts, NULL) != 1)
	{
		EVP_CIPHER_CTX_free(context);
		EVP_CIPHER_free(cipher);
		report_openssl("set up AES-256-GCM");
	}
	EVP_CIPHER_free(cipher);	/* the context has it */
	return context;
}

/* es_cipher_make_key makes a random key. */
void
es_cipher_make_key(uint8 *key)
{
	if (RAND_priv_bytes(key, ES_CIPHER_KEY) != 1)
		report_openssl("make a random key");
}

/* Gives a nonce that was never given before. */
static void
take_nonce(uint8 *nonce)
{
	if (next_nonce == NONCES || nonces_of != MyProcPid)
	{
		next_nonce = NONCES;
		if (RAND_bytes(nonces[0], sizeof(nonces)) != 1)
			report_openssl("make random bytes");
		next_nonce = 0;
		nonces_of = MyProcPid;
	}
	memcpy(nonce, nonces[next_nonce++], ES_CIPHER_NONCE);
}

/* Puts a key of zeros in the place of the one that a context has. */
static void
forget_context_key(EVP_CIPHER_CTX *context)
{
	static const uint8 zeros[ES_CIPHER_KEY] = {0};

	(void) EVP_CipherInit_ex2(context, NULL, zeros, NULL, -1, NULL);
}

/* Runs a message through a context, up to its tag. */
static bool
run_message(EVP_CIPHER_CTX *context, const uint8 *key, const EsCipherMessage *message)
{
	int			len;

	return EVP_CipherInit_ex2(context, NULL, key, message->nonce, -1, NULL) == 1 &&
		EVP_CipherUpdate(context, NULL, &len, message->header, message->header_len) == 1 &&
		(message->len == 0 ||
		 EVP_CipherUpdate(context, message->output, &len, message->input, message->len) == 1);
}

/* es_cipher_encrypt encrypts a message under a new nonce. */
void
es_cipher_encrypt(const uint8 *key, const EsCipherMessage *message)
{
	uint8		rest[ES_CIPHER_TAG];
	bool		done;
	int			len;

	if (algorithms.encrypting == NULL)
		algorithms.encrypting = make_cipher_context(true);
	take_nonce(message->nonce);
	done = run_message(algorithms.encrypting, key, message) &&
		EVP_CipherFinal_ex(algorithms.encrypting, rest, &len) == 1 &&
		EVP_CIPHER_CTX_ctrl(algorithms.encrypting, EVP_CTRL_AEAD_GET_TAG, ES_CIPHER_TAG, message->tag) == 1;
	forget_context_key(algorithms.encrypting);
	if (!done)
		report_openssl("encrypt");
}

/* es_cipher_decrypt decrypts a message; false, and nothing given, if it was not encrypted so. */
bool
es_cipher_decrypt(const uint8 *key, const EsCipherMessage *message)
{
	uint8		rest[ES_CIPHER_TAG];
	bool		done;
	int			len;

	if (algorithms.decrypting == NULL)
		algorithms.decrypting = make_cipher_context(false);
	done = run_message(algorithms.decrypting, key, message) &&
		EVP_CIPHER_CTX_ctrl(algorithms.decrypting, EVP_CTRL_AEAD_SET_TAG, ES_CIPHER_TAG, message->tag) == 1;
	if (!done)
	{
		forget_context_key(algorithms.decrypting);
		report_openssl("decrypt");
	}
	done = EVP_CipherFinal_ex(algorithms.decrypting, rest, &len) == 1;
	forget_context_key(algorithms.decrypting);
	if (!done)
	{
		explicit_bzero(message->output, message->len);
		ERR_clear_error();
	}
	return done;
}

/* es_cipher_digest gives the SHA-256 of bytes. */
void
es_cipher_digest(const void *data, Size len, uint8 *digest)
{
	if (algorithms.digest == NULL)
		algorithms.digest = EVP_MD_fetch(NULL, "SHA256", NULL);
	if (algorithms.digesting == NULL)
		algorithms.digesting = EVP_MD_CTX_new();
	if (algorithms.digest == NULL || algorithms.digesting == NULL ||
		EVP_DigestInit_ex2(algorithms.digesting, algorithms.digest, NULL) != 1 ||
		EVP_DigestUpdate(algorithms.digesting, data, len) != 1 ||
		EVP_DigestFinal_ex(algorithms.digesting, digest, NULL) != 1)
		report_openssl("compute SHA-256");
}

/* es_cipher_authenticate gives the HMAC-SHA-256 of bytes. */
void
es_cipher_authenticate(const uint8 *key, const void *data, Size len, uint8 *code)
{
	char		name[] = "SHA256";
	OSSL_PARAM	params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, name, 0), OSSL_PARAM_construct_end()};
	EVP_MAC_CTX *context;
	bool		done;

	if (algorithms.mac == NULL)
		algorithms.mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
	context = algorithms.mac ? EVP_MAC_CTX_new(algorithms.mac) : NULL;
	done = context != NULL && EVP_MAC_init(context, key, ES_CIPHER_KEY, params) == 1 &&
		EVP_MAC_update(context, data, len) == 1 &&
		EVP_MAC_final(context, code, NULL, ES_CIPHER_DIGEST) == 1;
	EVP_MAC_CTX_free(context);	/* wipes it */
	if (!done)
		report_openssl("compute HMAC-SHA-256");
}
