/*
 * registry.c
 *		The schemas of the versions of types, as they are stored.
 *
 * A row is a schema of one version of one type, and never changes: a version that
 * events are validated against means the same for all of them.  Rows are written by
 * type/evolve.c.
 */
#include "type/registry.h"

#include "catalog/pg_type.h"

#include "table/rows.h"

PG_FUNCTION_INFO_V1(es_registry_forget);

EsRelation	es_registry_table = {"schemas"};
static EsRelation schemas_by_type = {"schemas_by_type",
.index = {.keys = {Anum_schemas_type, Anum_schemas_version},.columns = "type, version",.unique = true}};

static const EsColumn columns[Natts_schemas] = {
	{"after_position", INT8OID}, {"registered_at", TIMESTAMPTZOID}, {"version", INT4OID}, {"type", TEXTOID},
	{"compatibility", TEXTOID}, {"schema", JSONBOID}
};
const EsShape es_registry_shape = ES_SHAPE(&es_registry_table, &schemas_by_type, columns);

/*
 * es_registry_read gives the schema of a version, in the current memory context; NULL
 * if there is none.
 */
Jsonb *
es_registry_read(const text *type, int version)
{
	EsRows		rows = {.shape = &es_registry_shape,.mode = AccessShareLock};
	Jsonb	   *schema = NULL;

	es_rows_equal(&rows, PointerGetDatum(type));
	es_rows_equal(&rows, Int32GetDatum(version));
	es_rows_begin(&rows);
	if (es_rows_next(&rows))
		schema = es_columns_jsonb(rows.values, rows.isnull, Anum_schemas_schema);
	es_rows_end(&rows);
	return schema;
}

/*
 * eventstore.forget_schemas() is the row trigger for rows that others insert: a
 * restore, a subscription.
 */
Datum
es_registry_forget(PG_FUNCTION_ARGS)
{
	es_base_announce(&es_registry_table);
	PG_RETURN_POINTER(NULL);
}
