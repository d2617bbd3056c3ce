/*
 * evolve.h
 *		Changes of what is defined of types.
 */
#ifndef ES_TYPE_EVOLVE_H
#define ES_TYPE_EVOLVE_H

#include "base/base.h"

/*
 * Raises if operations must not be an upcaster, which by now they are.  Set by the part,
 * above us, that has keys which come from events in their newest form.
 */
extern void (*es_evolve_upcast_hook) (const text *type);

#endif							/* ES_TYPE_EVOLVE_H */
