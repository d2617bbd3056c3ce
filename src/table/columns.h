/*
 * columns.h
 *		What the tables of the store look like, as far as the code here goes by it.
 */
#ifndef ES_TABLE_COLUMNS_H
#define ES_TABLE_COLUMNS_H

#include "base/base.h"

#include "utils/relcache.h"

#include "base/objects.h"

/* A column; its number is its place in the table. */
typedef struct EsColumn
{
	const char *name;
	Oid			type;
	bool		nullable;
} EsColumn;

/* A table.  Users may have added columns after those that are named here. */
typedef struct EsShape
{
	EsRelation *table;
	EsRelation *key;			/* the index that its rows are found again by;
								 * NULL: they are only added, or there is one
								 * at most */
	int			ncolumns;
	const EsColumn *columns;
} EsShape;

#define ES_SHAPE(t, k, c) \
	{.table = (t),.key = (k),.ncolumns = lengthof(c),.columns = (c)}

extern void es_columns_check(Relation rel, const EsColumn *columns, int ncolumns);
extern bool es_columns_same(const EsColumn *column, Datum a, Datum b);

#endif							/* ES_TABLE_COLUMNS_H */
