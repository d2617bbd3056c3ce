/*
 * evolve.c
 *		Changes of what is defined of types: upcasters.
 *
 * One transaction at a time changes definitions: all take eventstore.upcasters in SHARE
 * ROW EXCLUSIVE mode and keep it to their end.
 *
 * A version that a definition leads to may be written from its commit on, so an event of
 * it comes after the last position given out before; the row has that.  A definition
 * can be dropped only as long as there is no such event.  To find out, the log is
 * looked through from there: first with appends going on, up to where all is final;
 * then appends are excluded, their transactions in flight waited for
 * (es_streamlock_freeze), and what has come since is looked at.  They stay excluded to
 * the end of the transaction: the next append knows that the version is gone.  A
 * prepared transaction that has appended is in flight, too.
 *
 * Locks, in order: eventstore.upcasters; the exclusion of appends.
 */
#include "base/base.h"

#include "access/xact.h"
#include "utils/builtins.h"
#include "utils/regproc.h"

#include "base/call.h"
#include "base/error.h"
#include "base/names.h"
#include "base/objects.h"
#include "base/pending.h"
#include "json/opcompile.h"
#include "json/size.h"
#include "log/settle.h"
#include "log/subscriber.h"
#include "stream/lock.h"
#include "table/columns.h"
#include "table/rows.h"
#include "type/handler.h"
#include "type/registry.h"
#include "type/upcast.h"
#include "type/usage.h"

PG_FUNCTION_INFO_V1(es_register_upcaster);
PG_FUNCTION_INFO_V1(es_register_upcaster_ops);
PG_FUNCTION_INFO_V1(es_drop_upcaster);

/* ---- what there is ---- */

/* A definition of a type, an upcaster or a schema. */
typedef struct Definition
{
	int			version;		/* that it leads to, or is of */
	int64		after_position;
} Definition;

/* Begins a change of definitions. */
static void
begin_type_change(const char *command)
{
	es_subscriber_begin_change(es_upcast_shape.table, command);
}

/* Makes the definition of an upcaster's row. */
static void
take_upcaster_definition(void *element, const EsRows *rows)
{
	Definition *definition = element;

	definition->version = DatumGetInt32(rows->values[Anum_upcasters_from_version - 1]) + 1;
	definition->after_position = DatumGetInt64(rows->values[Anum_upcasters_after_position - 1]);
}

/* Makes the definition of a schema's row. */
static void
take_schema_definition(void *element, const EsRows *rows)
{
	Definition *definition = element;

	definition->version = DatumGetInt32(rows->values[Anum_schemas_version - 1]);
	definition->after_position = DatumGetInt64(rows->values[Anum_schemas_after_position - 1]);
}

/* Gives what one of the tables has of a type, in order of version. */
static Definition *
read_type_definitions(const text *type, const EsShape *shape, int *count)
{
	EsRows		rows = {.shape = shape,.mode = AccessShareLock};

	es_rows_equal(&rows, PointerGetDatum(type));
	es_rows_begin(&rows);
	return es_rows_all(&rows, sizeof(Definition),
					   shape == &es_upcast_shape ? take_upcaster_definition : take_schema_definition, count);
}

/* Gives the definition of a version; NULL if there is none. */
static const Definition *
definition_of_version(const Definition *definitions, int count, int version)
{
	for (int i = 0; i < count; i++)
		if (definitions[i].version == version)
			return &definitions[i];
	return NULL;
}

/*
 * Tells after which position events of a version of a type, or of a later one, may
 * begin: where the first definition was registered that allows one of them.
 */
static int64
find_first_use(const text *type, int version)
{
	const EsShape *shapes[] = {&es_upcast_shape, &es_registry_shape};
	int64		after = PG_INT64_MAX;

	if (version == 1)
		return 0;
	for (int i = 0; i < lengthof(shapes); i++)
	{
		int			count;
		Definition *definitions = read_type_definitions(type, shapes[i], &count);

		for (int j = 0; j < count; j++)
			if (definitions[j].version >= version)
				after = Min(after, definitions[j].after_position);
	}
	return after;
}

/* ---- registering upcasters ---- */

/* Writes an upcaster's row, over the one that is there. */
static void
put_upcaster(const text *type, int from_version, const char *handler, const Jsonb *ops)
{
	int			count;
	Definition *definitions = read_type_definitions(type, &es_upcast_shape, &count);
	const Definition *before = definition_of_version(definitions, count, from_version + 1);
	Datum		values[Natts_upcasters];
	bool		isnull[Natts_upcasters] = {false};

	values[Anum_upcasters_after_position - 1] =
		Int64GetDatum(before ? before->after_position : es_settle_last_given());
	values[Anum_upcasters_from_version - 1] = Int32GetDatum(from_version);
	values[Anum_upcasters_type - 1] = PointerGetDatum(type);
	es_columns_put_string(values, isnull, Anum_upcasters_handler, handler);
	es_columns_put(values, isnull, Anum_upcasters_ops, ops);
	es_rows_put(&es_upcast_shape, values, isnull);
	es_base_announce(es_upcast_shape.table);
	CommandCounterIncrement();
}

/* Fetches the argument that names a type. */
static text *
type_arg(FunctionCallInfo fcinfo)
{
	text	   *type;

	es_call_require(fcinfo, 0, "type");
	type = PG_GETARG_TEXT_PP(0);
	es_names_check_type(type);
	return type;
}

/* Fetches the argument from_version. */
static int
from_version_arg(FunctionCallInfo fcinfo)
{
	es_call_require(fcinfo, 1, "from_version");
	if (PG_GETARG_INT32(1) < 1 || PG_GETARG_INT32(1) == PG_INT32_MAX)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"from_version\" must be between 1 and %d", PG_INT32_MAX - 1));
	return PG_GETARG_INT32(1);
}

/*
 * es_register_upcaster(type text, from_version int, handler regprocedure) makes
 * a function the upcaster from a version to the next, in place of the one
 * registered before.  Anything but jsonb to jsonb is 22023, a function that the
 * caller may not call 42501.  Waits for other changes of upcasters and schemas, not for
 * appends; a rollback undoes it.
 */
Datum
es_register_upcaster(PG_FUNCTION_ARGS)
{
	text	   *type = type_arg(fcinfo);
	int			from_version = from_version_arg(fcinfo);
	Oid			function;

	es_call_require(fcinfo, 2, "handler");
	function = PG_GETARG_OID(2);
	begin_type_change("es_register_upcaster()");
	es_handler_require_function(function);
	if (!es_handler_fits(function, &es_upcast_signature))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("function %s cannot be an upcaster", format_procedure(function)),
				errdetail("An upcaster must be a function (jsonb) RETURNS jsonb."));
	es_handler_require_execute(function);
	put_upcaster(type, from_version, es_handler_signature(function), NULL);
	PG_RETURN_VOID();
}

/*
 * es_register_upcaster_ops(type text, from_version int, ops jsonb) makes
 * operations the upcaster from a version to the next; the state that they change
 * is the data.  Malformed ones are 22023.  Otherwise like es_register_upcaster.
 */
Datum
es_register_upcaster_ops(PG_FUNCTION_ARGS)
{
	text	   *type = type_arg(fcinfo);
	int			from_version = from_version_arg(fcinfo);
	Jsonb	   *ops;

	es_call_require(fcinfo, 2, "ops");
	ops = PG_GETARG_JSONB_P(2);
	begin_type_change("es_register_upcaster_ops()");
	es_jsonsize_check_definition(ops, "ops");
	(void) es_opcompile_document(ops);
	put_upcaster(type, from_version, NULL, ops);
	PG_RETURN_VOID();
}

/* ---- dropping ---- */

/* Raises 55000 for an event that a definition is needed for. */
ES_NORETURN static void
refuse_drop_of_used(const EsUsage *usage, const char *what)
{
	ereport(ERROR,
			errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("cannot drop %s because there are events that need it", what),
			errdetail("The event at position " INT64_FORMAT " is of version %d.", usage->position, usage->version));
}

/*
 * Raises 55000 if there is an event of a version of a type up to highest, and sees to it
 * that there will be none before the transaction ends.
 */
static void
require_no_use(const text *type, int lowest, int highest, const char *what)
{
	EsUsage		usage = {.type = type,.lowest = lowest,.highest = highest};
	int64		after = find_first_use(type, lowest);
	int64		final = es_settle_compute();

	if (es_usage_find(&usage, after))
		refuse_drop_of_used(&usage, what);
	es_pending_flush();
	(void) es_streamlock_freeze();
	CommandCounterIncrement();
	if (es_usage_find(&usage, Max(after, final)))
		refuse_drop_of_used(&usage, what);
}

/* Raises 55000 for a definition that is not its kind's last of the type. */
static void
require_last_definition(const Definition *definitions, int count, int version, const char *what)
{
	int			last = definitions[count - 1].version;

	if (last != version)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("cannot drop %s because it is not the last", what),
				errhint("Drop the later ones first."));
}

/* Takes a definition's row away. */
static void
take_definition_away(const EsShape *shape, const text *type, int version)
{
	Datum		key[] = {PointerGetDatum(type), Int32GetDatum(version)};

	(void) es_rows_take_away(shape, key, lengthof(key));
	es_base_announce(shape->table);
	CommandCounterIncrement();
}

/*
 * es_drop_upcaster(type text, from_version int) drops the last upcaster of a type.
 * Unknown: VE004; not the last, or events of a later version: 55000.  Waits for other
 * changes of upcasters and schemas, then for transactions that have appended, and keeps
 * others from appending to its end; a rollback undoes it.
 */
Datum
es_drop_upcaster(PG_FUNCTION_ARGS)
{
	text	   *type = type_arg(fcinfo);
	int			from_version = from_version_arg(fcinfo);
	Definition *definitions;
	int			count;
	char	   *what;

	begin_type_change("es_drop_upcaster()");
	definitions = read_type_definitions(type, &es_upcast_shape, &count);
	if (definition_of_version(definitions, count, from_version + 1) == NULL)
		ereport(ERROR,
				errcode(ES_ERRCODE_UNDEFINED_OBJECT),
				errmsg("type \"%s\" has no upcaster from version %d", text_to_cstring(type), from_version));
	what = psprintf("the upcaster of type \"%s\" from version %d", text_to_cstring(type), from_version);
	require_last_definition(definitions, count, from_version + 1, what);
	require_no_use(type, from_version + 1, PG_INT32_MAX, what);
	take_definition_away(&es_upcast_shape, type, from_version);
	PG_RETURN_VOID();
}
