/*
 * need.h
 *		Who still needs events that are hidden.
 */
#ifndef ES_LIFECYCLE_NEED_H
#define ES_LIFECYCLE_NEED_H

#include "base/base.h"

#include "base/event.h"

typedef struct EsNeeds EsNeeds;

extern EsNeeds *es_need_read(void);
extern const char *es_need_of(const EsNeeds *needs, const EsEvent *event);

#endif							/* ES_LIFECYCLE_NEED_H */
