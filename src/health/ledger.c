/*
 * ledger.c
 *		The log's segments and indexes: what SQL cannot ask.
 *
 * The looks themselves are in ledger.sql.
 */
#include "base/base.h"

#include "access/htup_details.h"
#include "funcapi.h"
#include "utils/builtins.h"

#include "base/call.h"
#include "log/segment.h"

PG_FUNCTION_INFO_V1(es_ledger_segment_index);

/*
 * eventstore.segment_index(segment, number): the name of one of the indexes that a segment
 * has, and the statement that makes it; NULLs if there are fewer.
 */
Datum
es_ledger_segment_index(PG_FUNCTION_ARGS)
{
	TupleDesc	desc = es_call_result_desc(fcinfo);
	int64		segment = PG_GETARG_INT64(0);
	int			number = PG_GETARG_INT32(1);
	bool		is_one = number >= 0 && number < ES_INDEX_COUNT;
	bool		isnull[2] = {!is_one, !is_one};
	Datum		values[2] = {0};

	if (is_one)
	{
		values[0] = CStringGetTextDatum(psprintf("%s%s", es_segment_name(segment), es_segment_index_names[number]));
		values[1] = CStringGetTextDatum(es_segment_index_statement(segment, (EsSegmentIndex) number));
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, isnull)));
}
