/*
 * columns.h
 *		What the tables of the store look like, as far as the code here goes by it.
 */
#ifndef ES_TABLE_COLUMNS_H
#define ES_TABLE_COLUMNS_H

#include "base/base.h"

#include "datatype/timestamp.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/relcache.h"
#include "utils/timestamp.h"

#include "base/names.h"
#include "base/objects.h"

/* A column; its number is its place in the table. */
typedef struct EsColumn
{
	const char *name;
	Oid			type;
	bool		nullable;
} EsColumn;

/*
 * A column that came with a later version than the table: it is found by its name, after
 * those of the shape, where users may have added some before.  A store whose script was not
 * updated yet lacks it.  New rows get what is made for it, in the current memory context;
 * those that are changed keep what they have.
 */
typedef struct EsLaterColumn
{
	const char *name;
	Oid			type;
	Datum		(*make) (bool *isnull);
} EsLaterColumn;

/* A table.  Users may have added columns after those that are named here. */
typedef struct EsShape
{
	EsRelation *table;
	EsRelation *key;			/* the index that its rows are found again by;
								 * NULL: they are only added, or there is one
								 * at most */
	int			ncolumns;
	const EsColumn *columns;
	const EsLaterColumn *later; /* the last has no name; NULL: there are none */
} EsShape;

#define ES_SHAPE(t, k, c) \
	{.table = (t),.key = (k),.ncolumns = lengthof(c),.columns = (c)}

/*
 * Columns of a row that may be NULL, by number.  They are taken in the current memory
 * context; NULL is a null pointer, and of times DT_NOBEGIN.
 */
static inline text *
es_columns_text(const Datum *values, const bool *isnull, AttrNumber column)
{
	return isnull[column - 1] ? NULL : DatumGetTextPCopy(values[column - 1]);
}

static inline Jsonb *
es_columns_jsonb(const Datum *values, const bool *isnull, AttrNumber column)
{
	return isnull[column - 1] ? NULL : DatumGetJsonbPCopy(values[column - 1]);
}

static inline char *
es_columns_string(const Datum *values, const bool *isnull, AttrNumber column)
{
	return isnull[column - 1] ? NULL : TextDatumGetCString(values[column - 1]);
}

static inline TimestampTz
es_columns_time(const Datum *values, const bool *isnull, AttrNumber column)
{
	return isnull[column - 1] ? DT_NOBEGIN : DatumGetTimestampTz(values[column - 1]);
}

/* They are put as they are, a text, a jsonb; of strings and names a text is made. */
static inline void
es_columns_put(Datum *values, bool *isnull, AttrNumber column, const void *content)
{
	values[column - 1] = PointerGetDatum(content);
	isnull[column - 1] = content == NULL;
}

static inline void
es_columns_put_string(Datum *values, bool *isnull, AttrNumber column, const char *content)
{
	es_columns_put(values, isnull, column, content ? cstring_to_text(content) : NULL);
}

static inline void
es_columns_put_time(Datum *values, bool *isnull, AttrNumber column, TimestampTz content)
{
	values[column - 1] = TimestampTzGetDatum(content);
	isnull[column - 1] = content == DT_NOBEGIN;
}

static inline void
es_columns_put_names(Datum *values, bool *isnull, AttrNumber column, const EsNames *names)
{
	es_columns_put(values, isnull, column, names->set ? es_names_array(names) : NULL);
}

extern void es_columns_check(Relation rel, const EsColumn *columns, int ncolumns);
extern const EsLaterColumn *es_columns_later(const EsShape *shape, const char *name);
extern bool es_columns_same(const EsColumn *column, Datum a, Datum b);

#endif							/* ES_TABLE_COLUMNS_H */
