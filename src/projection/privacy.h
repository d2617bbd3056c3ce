/*
 * privacy.h
 *		What protected data mean for projections.
 */
#ifndef ES_PROJECTION_PRIVACY_H
#define ES_PROJECTION_PRIVACY_H

#include "base/base.h"

#include "nodes/nodes.h"

#include "projection/projection.h"

extern void es_privacy_init(void);
extern void es_privacy_keep_keys(void);
extern void es_privacy_check(const EsProjection *projection);
extern void es_privacy_check_protect(const text *category);
extern void es_privacy_check_index(const EsProjection *projection, Node *expression);

#endif							/* ES_PROJECTION_PRIVACY_H */
