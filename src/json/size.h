/*
 * size.h
 *		How long the JSON text of a jsonb is, found out without making it.
 */
#ifndef ES_JSON_SIZE_H
#define ES_JSON_SIZE_H

#include "base/base.h"

#include "access/detoast.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

/*
 * So much text fits into what the server can send, 1 GB, in every way there is:
 * converted to the client's encoding, or as part of a row's text in a COPY file,
 * each of its bytes becomes four at most.
 */
#define ES_MOST_TEXT		(255 * 1024 * 1024)

/*
 * A message with so much text can just be sent, its other members included, if
 * nothing in it grows.
 */
#define ES_MOST_SENT		(MaxAllocSize - 16384)

/*
 * Levels of arrays and objects that are accepted.  With its default settings the
 * server reads twice as many from text.
 */
#define ES_MOST_LEVELS		6400

/*
 * No byte of a jsonb stands for more text: a number takes 16 bytes at least, its
 * entry and padding included, and may have 131072 digits, a sign, a point, 16383
 * decimals, and a comma and a blank after it.
 */
#define ES_MOST_TEXT_A_BYTE	9217

typedef enum EsTextSize
{
	ES_TEXT_FITS,
	ES_TEXT_TOO_LONG,
	ES_TEXT_TOO_DEEP
} EsTextSize;

extern int	es_jsonsize_event_limit;	/* GUC eventstore.max_event_size,
										 * bytes */

extern void es_jsonsize_init(void);
extern EsTextSize es_jsonsize_measure(const Datum *values, int count, int64 limit);
extern int	es_jsonsize_errdetail(void);
extern void es_jsonsize_check_definition(const Jsonb *json, const char *what);

/*
 * es_jsonsize_judge tells whether the text of some jsonb values together fits into
 * a limit: by a comparison, where their stored size says so.
 */
static inline EsTextSize
es_jsonsize_judge(const Datum *values, int count, int64 limit)
{
	uint64		stored = 0;

	for (int i = 0; i < count; i++)
		stored += toast_raw_datum_size(values[i]);
	if (likely(stored * ES_MOST_TEXT_A_BYTE <= limit))
		return ES_TEXT_FITS;
	return es_jsonsize_measure(values, count, limit);
}

/* es_jsonsize_judge_event judges an event's data and metadata. */
static inline EsTextSize
es_jsonsize_judge_event(Datum data, Datum metadata, int64 limit)
{
	Datum		values[] = {data, metadata};

	return es_jsonsize_judge(values, lengthof(values), limit);
}

/* es_jsonsize_can_keep tells whether a dump could have a jsonb, and bring it back. */
static inline bool
es_jsonsize_can_keep(const Jsonb *json)
{
	Datum		value = JsonbPGetDatum(json);

	return es_jsonsize_judge(&value, 1, ES_MOST_TEXT) == ES_TEXT_FITS;
}

#endif							/* ES_JSON_SIZE_H */
