/*
 * ddlguard.h
 *		Statements that would take the store away.
 */
#ifndef ES_SERVER_DDLGUARD_H
#define ES_SERVER_DDLGUARD_H

#include "base/base.h"

extern void es_ddlguard_init(void);

#endif							/* ES_SERVER_DDLGUARD_H */
