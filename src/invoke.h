/*
 * invoke.h
 *		Calling users' functions, and reporting what they raise as VE009.
 */
#ifndef ES_INVOKE_H
#define ES_INVOKE_H

#include "base.h"

extern bool es_invoke_passes_through(int sqlerrcode);
extern Datum es_invoke_handler(FunctionCallInfo fcinfo);

#endif							/* ES_INVOKE_H */
