/*
 * message.c
 *		es_feed_message: an event as the message that a feed has of it.
 *
 * Consumers that read the history with es_read_all write it byte by byte as
 * the output plugin would: both go through format.c.
 */
#include "base/base.h"

#include "rights/right.h"
#include "utils/builtins.h"

#include "base/event.h"
#include "feed/format.h"
#include "feed/option.h"

#define MESSAGE_SIZE 1000

PG_FUNCTION_INFO_V1(es_feed_message);

/* Gives the CloudEvents source of this database, made once for a statement. */
static const char *
get_statement_source(FmgrInfo *flinfo)
{
	if (flinfo->fn_extra == NULL)
		flinfo->fn_extra = es_feedformat_source(flinfo->fn_mcxt);
	return flinfo->fn_extra;
}

/*
 * es_feed_message(event, format) writes an event as the output plugin does.
 * NULL for NULL, and for a row without type or data, which is no event; an
 * unknown format is 22023, an event too large for a message 54000; 42501
 * without 'read' on something.  Takes no lock.
 */
Datum
es_feed_message(PG_FUNCTION_ARGS)
{
	EsFeedFormat format = es_feedoption_format(text_to_cstring(PG_GETARG_TEXT_PP(1)));
	EsEvent		event;
	Datum		values[Natts_es_event];
	bool		isnull[Natts_es_event];
	StringInfoData out;

	es_right_require_any(ES_RIGHT_READ);
	if (!es_event_of_datum(PG_GETARG_DATUM(0), &event, values, isnull))
		PG_RETURN_NULL();

	es_feedformat_check(&event, format);

	/*
	 * the text is made in place: room for its header first, and for most
	 * events at once
	 */
	initStringInfo(&out);
	enlargeStringInfo(&out, MESSAGE_SIZE);
	out.len = VARHDRSZ;
	if (format == ES_FEED_CLOUDEVENTS)
		es_feedformat_cloudevent(&out, &event, get_statement_source(fcinfo->flinfo), InvalidTransactionId);
	else
		es_feedformat_json(&out, &event, InvalidTransactionId);
	SET_VARSIZE(out.data, out.len);
	PG_RETURN_TEXT_P(out.data);
}
