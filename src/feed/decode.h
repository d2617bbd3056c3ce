/*
 * decode.h
 *		The output plugin's entry, which the server looks for by name.
 */
#ifndef ES_FEED_DECODE_H
#define ES_FEED_DECODE_H

#include "base/base.h"

#include "replication/output_plugin.h"

extern PGDLLEXPORT void _PG_output_plugin_init(OutputPluginCallbacks *callbacks);

#endif							/* ES_FEED_DECODE_H */
