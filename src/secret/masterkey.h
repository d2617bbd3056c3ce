/*
 * masterkey.h
 *		The master key: what a command prints, kept by the session.
 */
#ifndef ES_SECRET_MASTERKEY_H
#define ES_SECRET_MASTERKEY_H

#include "base/base.h"


/* What is made of a master key. */
typedef struct EsMasterKey
{
	int64		fingerprint;	/* tells it from others, and nothing of it */
	const uint8 *wrapping;		/* the key that wraps keys, in the arena */
} EsMasterKey;

extern void es_masterkey_init(void);
extern bool es_masterkey_is_at_hand(int64 fingerprint);
extern const EsMasterKey *es_masterkey_get(int64 fingerprint);
extern const EsMasterKey *es_masterkey_renew(void);
extern EsMasterKey es_masterkey_of_command(const char *command);
extern void es_masterkey_forget(void);

#endif							/* ES_SECRET_MASTERKEY_H */
