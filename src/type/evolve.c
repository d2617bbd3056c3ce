/*
 * evolve.c
 *		Changes of what is defined of types: upcasters, schemas.
 *
 * Types are the store's, so whoever changes what is defined of them has 'admin' on '*'.
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
 * A schema describes the type's newest version, if that has none yet, or else begins the
 * next.  So an upcaster and a schema for one new version may be registered in either
 * order, if the version before has a schema.
 *
 * Locks, in order: eventstore.upcasters; what the hook takes; the exclusion of appends.
 */
#include "type/evolve.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "rights/right.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/regproc.h"
#include "utils/timestamp.h"

#include "base/call.h"
#include "base/error.h"
#include "base/names.h"
#include "base/objects.h"
#include "base/pending.h"
#include "json/opcompile.h"
#include "json/size.h"
#include "log/durable.h"
#include "log/settle.h"
#include "log/subscriber.h"
#include "schema/compat.h"
#include "schema/compile.h"
#include "stream/lock.h"
#include "table/columns.h"
#include "table/rows.h"
#include "type/handler.h"
#include "type/registry.h"
#include "type/upcast.h"
#include "type/usage.h"

void		(*es_evolve_upcast_hook) (const text *type) = NULL;

PG_FUNCTION_INFO_V1(es_register_upcaster);
PG_FUNCTION_INFO_V1(es_register_upcaster_ops);
PG_FUNCTION_INFO_V1(es_drop_upcaster);
PG_FUNCTION_INFO_V1(es_register_schema);
PG_FUNCTION_INFO_V1(es_drop_schema);

/* ---- what there is ---- */

/* A definition of a type, an upcaster or a schema. */
typedef struct Definition
{
	int			version;		/* that it leads to, or is of */
	int64		after_position;
} Definition;

/* Begins a change of definitions; 42501 unless the user may make one. */
static void
begin_type_change(const char *command)
{
	es_right_require(ES_RIGHT_ADMIN, NULL);
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
 * is the data.  Malformed ones are 22023, and 55000 those that put protected fields, or what they
 * make of them, where a projection takes its keys from.  Waits for changes of projections, too.
 * Otherwise like es_register_upcaster.
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
	if (es_evolve_upcast_hook)
		es_evolve_upcast_hook(type);
	PG_RETURN_VOID();
}

/* ---- registering schemas ---- */

/* What there is of a type as a schema is registered. */
typedef struct SchemaPlace
{
	const Jsonb *wanted;
	int			same;			/* the version that has it already; 0: none */
	int			newest;			/* of the type's versions */
	int			last;			/* version with a schema; 0: none has one */
	Jsonb	   *last_schema;
} SchemaPlace;

/* Looks at a type's schemas. */
static void
look_at_schemas(SchemaPlace *place, const text *type)
{
	EsRows		rows = {.shape = &es_registry_shape,.mode = AccessShareLock};

	es_rows_equal(&rows, PointerGetDatum(type));
	es_rows_begin(&rows);
	while (es_rows_next(&rows))
	{
		int			version = DatumGetInt32(rows.values[Anum_schemas_version - 1]);
		Jsonb	   *schema = es_columns_jsonb(rows.values, rows.isnull, Anum_schemas_schema);

		CHECK_FOR_INTERRUPTS();
		if (compareJsonbContainers(&schema->root, &unconstify(Jsonb *, place->wanted)->root) == 0)
			place->same = version;
		if (place->last_schema)
			pfree(place->last_schema);
		place->last = version;
		place->last_schema = schema;
	}
	es_rows_end(&rows);
}

/* Finds out where a schema of a type belongs. */
static SchemaPlace
find_schema_place(const text *type, const Jsonb *schema)
{
	SchemaPlace place = {.wanted = schema,.newest = 1};
	int			count;
	Definition *upcasters = read_type_definitions(type, &es_upcast_shape, &count);

	look_at_schemas(&place, type);
	place.newest = Max(place.newest, place.last);
	if (count > 0)
		place.newest = Max(place.newest, upcasters[count - 1].version);
	return place;
}

/* Raises VE006 unless a schema is compatible with the last one of its type, as the word says. */
static void
require_compatible_schema(const text *type, const SchemaPlace *place, const text *word)
{
	EsCompatibility compatibility = es_compat_from_name(word);
	List	   *problems = es_compat_compare(place->last_schema, true, place->wanted, compatibility);
	const char *how = compatibility == ES_COMPATIBILITY_FULL ? "fully" : text_to_cstring(word);
	const EsIncompatibility *first;

	if (problems == NIL)
		return;
	first = linitial(problems);
	ereport(ERROR,
			errcode(ES_ERRCODE_INCOMPATIBLE_SCHEMA),
			first->decided ?
			errmsg("new schema of type \"%s\" is not %s compatible with that of version %d",
				   text_to_cstring(type), how, place->last) :
			errmsg("new schema of type \"%s\" cannot be shown to be %s compatible with that of version %d",
				   text_to_cstring(type), how, place->last),
			errdetail_internal("JSON pointer \"%s\" of the %s schema, rule \"%s\": %s.", es_names_show(first->pointer),
							   first->forward ? "old" : "new", first->rule, first->message),
			errhint("Call es_compare_schemas to see all that is against it.  For a version that an upcaster leads to, register the schema with compatibility \"none\"."));
}

/* Adds the row of a schema. */
static void
add_schema(const text *type, int version, const Jsonb *schema, const text *compatibility)
{
	Datum		values[Natts_schemas];
	bool		isnull[Natts_schemas] = {false};

	values[Anum_schemas_after_position - 1] = Int64GetDatum(es_settle_last_given());
	values[Anum_schemas_registered_at - 1] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[Anum_schemas_version - 1] = Int32GetDatum(version);
	values[Anum_schemas_type - 1] = PointerGetDatum(type);
	values[Anum_schemas_compatibility - 1] = PointerGetDatum(compatibility);
	values[Anum_schemas_schema - 1] = JsonbPGetDatum(schema);
	es_rows_insert(&es_registry_shape, values, isnull);
	es_base_announce(&es_registry_table);
	CommandCounterIncrement();
}

/*
 * es_register_schema(type text, schema jsonb, compatibility text) registers what the
 * data of events of a type's newest version must look like, if that has no schema yet, or
 * else of the next version, which becomes the newest; returns that version.  A schema
 * that a version of the type has already changes nothing, and gives that version.
 *
 * NULLs are 22004; what is no schema, or no word for compatibility, 22023; one that
 * is not compatible with the type's last schema, in the way that the word says, or cannot
 * be shown to be, VE006.  Waits for other changes of upcasters and schemas, not for
 * appends; a rollback undoes it.
 */
Datum
es_register_schema(PG_FUNCTION_ARGS)
{
	text	   *type = type_arg(fcinfo);
	Jsonb	   *schema;
	SchemaPlace place;
	int			version;

	es_call_require(fcinfo, 1, "schema");
	schema = PG_GETARG_JSONB_P(1);
	es_call_require(fcinfo, 2, "compatibility");
	(void) es_compat_from_name(PG_GETARG_TEXT_PP(2));
	es_jsonsize_check_definition(schema, "schema");
	(void) es_schema_compile(schema, false);
	begin_type_change("es_register_schema()");
	place = find_schema_place(type, schema);
	if (place.same > 0)
		PG_RETURN_INT32(place.same);
	if (place.last == place.newest && place.newest == PG_INT32_MAX)
		ereport(ERROR,
				errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				errmsg("type \"%s\" cannot have another version", text_to_cstring(type)));
	version = place.last == place.newest ? place.newest + 1 : place.newest;
	if (place.last > 0)
		require_compatible_schema(type, &place, PG_GETARG_TEXT_PP(2));
	add_schema(type, version, schema, PG_GETARG_TEXT_PP(2));
	PG_RETURN_INT32(version);
}

/* ---- dropping ---- */

/* Raises 55000 for an event that a definition is needed for. */
ES_NORETURN static void
refuse_drop_of_used(const EsUsage *usage, const char *what)
{
	es_durable_flush_seen();
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

/*
 * es_drop_schema(type text, version int) drops the last schema of a type.  Unknown:
 * VE004; not the last, or events of its version: 55000.  The rest is as for
 * es_drop_upcaster.
 */
Datum
es_drop_schema(PG_FUNCTION_ARGS)
{
	text	   *type = type_arg(fcinfo);
	int			version;
	Definition *definitions;
	int			count;
	char	   *what;

	es_call_require(fcinfo, 1, "version");
	version = PG_GETARG_INT32(1);
	begin_type_change("es_drop_schema()");
	definitions = read_type_definitions(type, &es_registry_shape, &count);
	if (definition_of_version(definitions, count, version) == NULL)
		ereport(ERROR,
				errcode(ES_ERRCODE_UNDEFINED_OBJECT),
				errmsg("type \"%s\" has no schema of version %d", text_to_cstring(type), version));
	what = psprintf("the schema of version %d of type \"%s\"", version, text_to_cstring(type));
	require_last_definition(definitions, count, version, what);
	require_no_use(type, version, version, what);
	take_definition_away(&es_registry_shape, type, version);
	PG_RETURN_VOID();
}
