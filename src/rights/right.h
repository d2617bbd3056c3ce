/*
 * right.h
 *		Who may do what.
 */
#ifndef ES_RIGHTS_RIGHT_H
#define ES_RIGHTS_RIGHT_H

#include "base/base.h"

#include "base/names.h"

/*
 * The privileges, as bits; none implies another.  Where several are given to one of
 * these functions, any of them will do.
 */
typedef enum EsRight
{
	ES_RIGHT_READ = 1,			/* events, states, and what tells of them */
	ES_RIGHT_APPEND = 2,
	ES_RIGHT_ADMIN = 4			/* all the rest */
} EsRight;

#define ES_RIGHTS_ALL	(ES_RIGHT_READ | ES_RIGHT_APPEND | ES_RIGHT_ADMIN)

extern int	es_right_named(const char *privilege);

/* What the current user may do.  A NULL category is '*', all there are and will be. */
extern bool es_right_has(int rights, const text *category);
extern bool es_right_has_on_stream(int rights, const text *stream);
extern bool es_right_has_all(int rights, const EsNames *categories);
extern bool es_right_has_any(int rights);
extern bool es_right_categories(int rights, EsNames *categories);

/* The same, or 42501. */
extern void es_right_require(int rights, const text *category);
extern void es_right_require_stream(int rights, const text *stream);
extern void es_right_require_all(int rights, const EsNames *categories);
extern void es_right_require_any(int rights);

extern void es_right_init(void);

#endif							/* ES_RIGHTS_RIGHT_H */
