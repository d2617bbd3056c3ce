/*
 * owner.h
 *		Whom SQL of ours runs as, and with which settings.
 */
#ifndef ES_BASE_OWNER_H
#define ES_BASE_OWNER_H

#include "base/base.h"

/* SQL as the extension's owner, safe from the caller's settings. */
typedef struct EsOwnerContext
{
	Oid			user;
	int			sec_context;
	int			guc_level;		/* 0: nobody has changed */
} EsOwnerContext;

extern bool es_owner_in_worker(void);
extern int	es_owner_enter_settings(void);
extern void es_owner_leave_settings(int level);
extern void es_owner_enter(EsOwnerContext *saved);
extern void es_owner_become(EsOwnerContext *saved);
extern void es_owner_restrict(EsOwnerContext *saved);
extern void es_owner_shield(EsOwnerContext *saved);
extern void es_owner_unshield(const EsOwnerContext *saved);
extern void es_owner_leave(const EsOwnerContext *saved);

#endif							/* ES_BASE_OWNER_H */
