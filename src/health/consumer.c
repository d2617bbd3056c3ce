/*
 * consumer.c
 *		Functions that the store calls for its consumers: what SQL cannot ask.
 *
 * The looks themselves are in consumer.sql.
 */
#include "base/base.h"

#include "utils/builtins.h"

#include "type/handler.h"

PG_FUNCTION_INFO_V1(es_consumer_function_named);

/* eventstore.function_named(signature): the function that a row names; NULL if it is gone. */
Datum
es_consumer_function_named(PG_FUNCTION_ARGS)
{
	Oid			function = es_handler_find(text_to_cstring(PG_GETARG_TEXT_PP(0)));

	if (!OidIsValid(function))
		PG_RETURN_NULL();
	PG_RETURN_OID(function);
}
