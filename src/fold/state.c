/*
 * state.c
 *		States as values of any type: to and from jsonb, and stored.
 *
 * A state that is no jsonb is stored as text, as its type's output function
 * gives it under settings that lose nothing, and its input function takes it.
 *
 * What a stored state means depends on what its type is made of.  That is told
 * here, for the fingerprints of reducers and the layouts of projections; row
 * types that were looked at are watched (type/handler.c).
 */
#include "fold/state.h"

#include "access/htup.h"
#include "access/htup_details.h"
#include "catalog/pg_enum.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/pg_list.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "base/owner.h"
#include "base/settings.h"
#include "json/node.h"
#include "json/pack.h"
#include "type/handler.h"

/* Calls a function that asks for the type of its first argument. */
static Datum
call_polymorphic(Oid function, Oid type, NullableDatum *args, bool *isnull)
{
	LOCAL_FCINFO(fcinfo, 2);
	FmgrInfo	flinfo;
	List	   *types = list_make2(makeNullConst(type, -1, InvalidOid),
								   makeNullConst(JSONBOID, -1, InvalidOid));
	Datum		result;

	fmgr_info(function, &flinfo);
	fmgr_info_set_expr((Node *) makeFuncExpr(function, type, types, InvalidOid,
											 InvalidOid, COERCE_EXPLICIT_CALL), &flinfo);
	InitFunctionCallInfoData(*fcinfo, &flinfo, 2, InvalidOid, NULL, NULL);
	fcinfo->args[0] = args[0];
	fcinfo->args[1] = args[1];
	result = FunctionCallInvoke(fcinfo);
	*isnull = fcinfo->isnull;
	return result;
}

/*
 * es_state_to_jsonb converts a state that is not NULL as to_jsonb does, whatever
 * the session's settings.
 */
Datum
es_state_to_jsonb(Datum state, Oid state_type)
{
	NullableDatum args[2] = {{state, false}, {(Datum) 0, true}};
	int			level = es_owner_enter_settings();
	bool		isnull;
	Datum		result = call_polymorphic(F_TO_JSONB, state_type, args, &isnull);

	es_owner_leave_settings(level);
	return result;
}

/*
 * es_state_populate makes a row of a composite type (or a domain over one) as
 * jsonb_populate_record does under the server's own settings; *isnull goes in for the
 * base and out for the row.
 */
Datum
es_state_populate(Datum base, bool *isnull, Oid row_type, const Jsonb *json)
{
	NullableDatum args[2] = {{base, *isnull}, {JsonbPGetDatum(json), false}};
	int			level = es_settings_enter();
	Datum		row = call_polymorphic(F_JSONB_POPULATE_RECORD, row_type, args, isnull);

	es_settings_leave(level);
	return row;
}

/*
 * Makes a value of any type, as jsonb_populate_record does for a column: the
 * column "state" of a row made for the purpose.
 */
static Datum
make_value_from_jsonb(const Jsonb *json, Oid type, bool *isnull)
{
	TupleDesc	desc = CreateTemplateTupleDesc(1);
	EsKey		name = es_node_key("state", strlen("state"));
	EsNode		view = es_node_view(json);
	Datum		no_value = (Datum) 0;
	bool		no_value_isnull = true;
	bool		row_isnull = false;
	Datum		row;

	TupleDescInitEntry(desc, 1, "state", type, -1, 0);
	desc = BlessTupleDesc(desc);
	row = HeapTupleGetDatum(heap_form_tuple(desc, &no_value, &no_value_isnull));
	row = es_state_populate(row, &row_isnull, RECORDOID, es_pack_object_jsonb(&name, &view, 1));
	return GetAttributeByNum(DatumGetHeapTupleHeader(row), 1, isnull);
}

/*
 * es_state_initial makes the state that a reducer starts from.  A jsonb is
 * taken as it is.  Other types read it as jsonb_populate_record reads a column;
 * the default {} means an empty row for composite types and NULL for those that
 * an object says nothing about, such as numbers.
 */
Datum
es_state_initial(const Jsonb *initial, Oid state_type, bool *isnull)
{
	Oid			base_type = getBaseType(state_type);

	*isnull = initial == NULL;
	if (initial == NULL || state_type == JSONBOID)
		return JsonbPGetDatum(initial);
	if (JB_ROOT_IS_OBJECT(initial) && JB_ROOT_COUNT(initial) == 0 &&
		base_type != JSONBOID && base_type != JSONOID &&
		get_typtype(base_type) != TYPTYPE_COMPOSITE)
	{
		*isnull = true;
		return (Datum) 0;
	}
	return make_value_from_jsonb(initial, state_type, isnull);
}

/* es_state_to_text gives a state that is not NULL as text, in the current memory context. */
text *
es_state_to_text(Datum state, Oid state_type)
{
	Oid			output;
	bool		is_varlena;
	int			level = es_owner_enter_settings();
	char	   *result;

	getTypeOutputInfo(state_type, &output, &is_varlena);
	result = OidOutputFunctionCall(output, state);
	es_owner_leave_settings(level);
	return cstring_to_text(result);
}

/* es_state_from_text makes a state of what es_state_to_text gave. */
Datum
es_state_from_text(const text *stored, Oid state_type)
{
	Oid			input;
	Oid			param;
	int			level = es_owner_enter_settings();
	Datum		result;

	getTypeInputInfo(state_type, &input, &param);
	result = OidInputFunctionCall(input, text_to_cstring(stored), param, -1);
	es_owner_leave_settings(level);
	return result;
}

static void describe_type(StringInfo out, Oid type, bool with_labels);

/* Adds what makes a type a special one where it is used. */
static void
describe_modifiers(StringInfo out, int32 typmod, Oid collation)
{
	appendStringInfo(out, "(%d %s),", typmod, OidIsValid(collation) ? get_collation_name(collation) : "");
}

/* Adds the columns of a row type. */
static void
describe_columns(StringInfo out, Oid type, bool with_labels)
{
	TupleDesc	desc = lookup_rowtype_tupdesc(type, -1);

	es_handler_watch(get_typ_typrelid(type));
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(desc, i);

		if (column->attisdropped)
			continue;
		appendStringInfo(out, "%s:", NameStr(column->attname));
		describe_type(out, column->atttypid, with_labels);
		describe_modifiers(out, column->atttypmod, column->attcollation);
	}
	ReleaseTupleDesc(desc);
}

/* Orders an enum type's labels as values are ordered. */
static int
compare_enum_labels(const void *a, const void *b)
{
	float4		x = (*(const Form_pg_enum *) a)->enumsortorder;
	float4		y = (*(const Form_pg_enum *) b)->enumsortorder;

	return (x > y) - (x < y);
}

/* Adds the labels of an enum type. */
static void
describe_labels(StringInfo out, Oid type)
{
	CatCList   *list = SearchSysCacheList1(ENUMTYPOIDNAME, ObjectIdGetDatum(type));
	Form_pg_enum *labels = palloc(Max(list->n_members, 1) * sizeof(Form_pg_enum));

	for (int i = 0; i < list->n_members; i++)
		labels[i] = (Form_pg_enum) GETSTRUCT(&list->members[i]->tuple);
	qsort(labels, list->n_members, sizeof(Form_pg_enum), compare_enum_labels);
	for (int i = 0; i < list->n_members; i++)
		appendStringInfo(out, "%s,", NameStr(labels[i]->enumlabel));
	pfree(labels);
	ReleaseSysCacheList(list);
}

/* Adds what a domain is over, and how it restricts that. */
static void
describe_domain(StringInfo out, Oid type, bool with_labels)
{
	HeapTuple	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	Form_pg_type row;

	if (!HeapTupleIsValid(tuple))
		return;
	row = (Form_pg_type) GETSTRUCT(tuple);
	appendStringInfo(out, "%d ", row->typnotnull);
	describe_type(out, row->typbasetype, with_labels);
	describe_modifiers(out, row->typtypmod, row->typcollation);
	ReleaseSysCache(tuple);
}

/* Adds what a type is made of. */
static void
describe_type(StringInfo out, Oid type, bool with_labels)
{
	Oid			element = get_element_type(type);
	char		kind = get_typtype(type);

	check_stack_depth();
	appendStringInfo(out, "%s{", format_type_be_qualified(type));
	if (OidIsValid(element))
		describe_type(out, element, with_labels);
	else if (kind == TYPTYPE_DOMAIN)
		describe_domain(out, type, with_labels);
	else if (kind == TYPTYPE_RANGE)
		describe_type(out, get_range_subtype(type), with_labels);
	else if (kind == TYPTYPE_COMPOSITE)
		describe_columns(out, type, with_labels);
	else if (kind == TYPTYPE_ENUM && with_labels)
		describe_labels(out, type);
	appendStringInfoChar(out, '}');
}

/*
 * es_state_describe_type adds what a type is made of, as far as the meaning of a
 * stored state depends on it; not a domain's CHECKs.  The caller has set settings
 * of ours.
 */
void
es_state_describe_type(StringInfo out, Oid type)
{
	describe_type(out, type, true);
}

/*
 * es_state_layout tells what the text of a state of a type goes by: the columns of
 * rows, by their place; labels stand there themselves.  The caller has set settings
 * of ours.
 */
char *
es_state_layout(Oid type)
{
	StringInfoData out;

	initStringInfo(&out);
	describe_type(&out, type, false);
	return out.data;
}
