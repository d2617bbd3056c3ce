/*
 * upgrade.h
 *		What pg_upgrade needs to carry a store over.
 */
#ifndef ES_UPGRADE_H
#define ES_UPGRADE_H

#include "base.h"

extern void es_upgrade_init(void);

#endif							/* ES_UPGRADE_H */
