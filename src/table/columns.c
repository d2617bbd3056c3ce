/*
 * columns.c
 *		Whether a table still has the columns that the store has given it.
 *
 * Columns are read and written by number.  An administrator may have added some,
 * which come after ours, but one of ours that was dropped, renamed, retyped or may
 * be NULL by now makes a table one that we keep off.  Who opens a table looks
 * once, and again after the table has changed.
 */
#include "table/columns.h"

#include "catalog/pg_type.h"
#include "utils/rel.h"
#include "utils/uuid.h"

/* Describes what is wrong with a column; NULL if nothing is. */
static const char *
describe_column_fault(TupleDesc desc, const EsColumn *column, int i)
{
	Form_pg_attribute found = i < desc->natts ? TupleDescAttr(desc, i) : NULL;

	if (found == NULL || found->attisdropped)
		return psprintf("Column \"%s\" is missing.", column->name);
	if (strcmp(NameStr(found->attname), column->name) != 0)
		return psprintf("Column \"%s\" is called \"%s\".", column->name, NameStr(found->attname));
	if (found->atttypid != column->type)
		return psprintf("Column \"%s\" is of type %s, not %s.", column->name,
						format_type_be(found->atttypid), format_type_be(column->type));
	if (!column->nullable && !found->attnotnull)
		return psprintf("Column \"%s\" can be null.", column->name);
	return NULL;
}

/*
 * es_columns_check raises 55000 unless the first columns of a table are those that
 * the store goes by.
 */
void
es_columns_check(Relation rel, const EsColumn *columns, int ncolumns)
{
	for (int i = 0; i < ncolumns; i++)
	{
		const char *fault = describe_column_fault(RelationGetDescr(rel), &columns[i], i);

		if (fault != NULL)
			ereport(ERROR,
					errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("table \"%s\" does not have the columns of the event store", RelationGetRelationName(rel)),
					errdetail_internal("%s", fault),
					errhint("Undo what was done to the column.  What was dropped cannot be put back: restore from a backup."));
	}
}

/* es_columns_later finds a column of a shape that came later; NULL if it has none of that name. */
const EsLaterColumn *
es_columns_later(const EsShape *shape, const char *name)
{
	for (const EsLaterColumn *later = shape->later; later && later->name; later++)
		if (strcmp(later->name, name) == 0)
			return later;
	return NULL;
}

/*
 * es_columns_same tells whether two values of a column that is part of a key,
 * neither of them NULL, are the same.
 */
bool
es_columns_same(const EsColumn *column, Datum a, Datum b)
{
	switch (column->type)
	{
		case INT8OID:
			return DatumGetInt64(a) == DatumGetInt64(b);
		case INT4OID:
			return DatumGetInt32(a) == DatumGetInt32(b);
		case TEXTOID:
			return es_names_same(DatumGetTextPP(a), DatumGetTextPP(b));
		case UUIDOID:
			return memcmp(DatumGetUUIDP(a), DatumGetUUIDP(b), UUID_LEN) == 0;
	}
	elog(ERROR, "column \"%s\" cannot be part of a key", column->name);
}
