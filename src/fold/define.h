/*
 * define.h
 *		Creates, changes and drops reducers.
 */
#ifndef ES_FOLD_DEFINE_H
#define ES_FOLD_DEFINE_H

#include "base/base.h"

/*
 * Raises if a reducer must not be dropped.  Set by the part, above us, that has
 * users of reducers.
 */
extern void (*es_define_change_hook) (const text *reducer);
extern void (*es_define_drop_hook) (const text *reducer);

extern void es_define_require_right(const text *reducer);

#endif							/* ES_FOLD_DEFINE_H */
