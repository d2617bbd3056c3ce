/*
 * grant.h
 *		Giving and taking rights.
 */
#ifndef ES_RIGHTS_GRANT_H
#define ES_RIGHTS_GRANT_H

#include "base/base.h"

extern void es_grant_refresh(void);

#endif							/* ES_RIGHTS_GRANT_H */
