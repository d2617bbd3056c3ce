/*
 * ddlguard.h
 *		Statements that would take the store away.
 */
#ifndef ES_DDLGUARD_H
#define ES_DDLGUARD_H

#include "base.h"

extern void es_ddlguard_init(void);

#endif							/* ES_DDLGUARD_H */
