/*
 * upgrade.h
 *		What pg_upgrade needs to carry a store over.
 */
#ifndef ES_SERVER_UPGRADE_H
#define ES_SERVER_UPGRADE_H

#include "base/base.h"

extern void es_upgrade_init(void);

#endif							/* ES_SERVER_UPGRADE_H */
