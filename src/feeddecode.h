/*
 * feeddecode.h
 *		The output plugin's entry, which the server looks for by name.
 */
#ifndef ES_FEEDDECODE_H
#define ES_FEEDDECODE_H

#include "base.h"

#include "replication/output_plugin.h"

extern PGDLLEXPORT void _PG_output_plugin_init(OutputPluginCallbacks *callbacks);

#endif							/* ES_FEEDDECODE_H */
