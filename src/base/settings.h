/*
 * settings.h
 *		The settings that users' handlers run with: the server's own.
 */
#ifndef ES_BASE_SETTINGS_H
#define ES_BASE_SETTINGS_H

#include "base/base.h"

#include "lib/stringinfo.h"

extern int	es_settings_enter(void);
extern void es_settings_leave(int level);
extern bool es_settings_changed(void);
extern void es_settings_describe(StringInfo out);

#endif							/* ES_BASE_SETTINGS_H */
