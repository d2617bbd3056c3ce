/*
 * dependent.h
 *		What parts further up have to do when subjects are shredded.
 */
#ifndef ES_SECRET_DEPENDENT_H
#define ES_SECRET_DEPENDENT_H

#include "base/base.h"

#include "secret/bundle.h"

/* begin: before any lock is taken; end: the keys are destroyed, in this transaction. */
typedef struct EsDependentHooks
{
	void		(*begin_shred) (void);
	void		(*end_shred) (const EsKeyring *keys);
} EsDependentHooks;

extern EsDependentHooks es_dependent_hooks;

#endif							/* ES_SECRET_DEPENDENT_H */
