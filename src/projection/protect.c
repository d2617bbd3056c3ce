/*
 * protect.c
 *		es_protect: fields of a category's events are encrypted from now on.
 *
 * What is protected is told in secret/protection.c.  Here is what has to be agreed with
 * projections, whose keys are stored plain: no key may come from a field that is, or ever was,
 * protected, nor from where operations of an upcaster leave it, or what they make of it.  What
 * functions do with it nobody can see.  Definitions of projections are kept as they are meanwhile.
 *
 * The definition is written while no append is in flight (es_streamlock_freeze), so it holds for
 * each event after its position and for no other.
 *
 * Locks, in order: eventstore.protections; eventstore.projections; eventstore.subjects, if the
 * first key is made; the exclusion of appends.
 */
#include "projection/protect.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/call.h"
#include "base/names.h"
#include "base/objects.h"
#include "base/pending.h"
#include "json/node.h"
#include "json/scope.h"
#include "json/taint.h"
#include "json/value.h"
#include "log/subscriber.h"
#include "projection/keymap.h"
#include "projection/privacy.h"
#include "rights/grantrow.h"
#include "rights/right.h"
#include "secret/coverage.h"
#include "secret/protection.h"
#include "secret/subject.h"
#include "shared/headway.h"
#include "stream/lock.h"
#include "table/columns.h"
#include "table/rows.h"
#include "type/evolve.h"
#include "type/upcast.h"

#define MOST_PATHS	1000

PG_FUNCTION_INFO_V1(es_protect);

/* A path to protected fields. */
typedef struct FieldPath
{
	text	   *text;
	const EsKey *keys;
	int			nkeys;
} FieldPath;

/* What is to be protected. */
typedef struct Wanted
{
	text	   *category;
	const text *subject;		/* NULL: nothing is to be */
	EsValue    *subject_value;
	int			count;
	FieldPath  *paths;
} Wanted;

/* ---- keys of projections ---- */

/* Tells whether a path that keys are taken by leads to what is protected in some categories. */
static bool
key_path_is_protected(const EsNames *categories, const EsValue *path)
{
	if (path == NULL)
		return false;
	if (!categories->set)
		return es_protection_touches_value(NULL, path);
	for (int i = 0; i < categories->count; i++)
		if (es_protection_touches_value(categories->names[i], path))
			return true;
	return false;
}

/* Tells whether a path that keys are taken by leads to, above or into some places of data. */
static bool
key_path_meets(const EsValue *path, const EsLeaves *data)
{
	const EsKey *keys;
	int			nkeys;

	if (path == NULL || !es_value_mentions(path, ES_ROOT_DATA))
		return false;
	keys = es_value_path_keys(path, &nkeys);
	return keys ? es_taint_meets(data, keys + 1, nkeys - 1) : es_taint_meets(data, NULL, 0);
}

/* A look at whether keys are taken from where upcasters leave what is protected. */
typedef struct KeyLook
{
	const EsKeyMap *map;
	const EsUpcasters *upcasters;
	const text *type;			/* only those of this one; NULL: of all */
	MemoryContext scratch;		/* for what is found of one type */
} KeyLook;

/*
 * Follows protected fields through the upcasters of a type that are operations, from its first
 * one on; gives the number of the next type's first.
 */
static int
follow_type_upcasters(const EsUpcasters *upcasters, int first, EsLeaves *data)
{
	const EsUpcaster *of = &upcasters->items[first];
	int			n = first;

	for (; n < upcasters->count; n++)
	{
		const EsUpcaster *upcaster = &upcasters->items[n];
		EsLeaves	before = {0};

		CHECK_FOR_INTERRUPTS();
		if (!es_upcast_is_of_type(upcaster, of->type, of->type_len))
			break;
		if (upcaster->ops == NULL || data->count == 0)
			continue;

		/*
		 * as many as there are fit; whether it does more than copy does not
		 * matter here
		 */
		(void) es_taint_add_all(&before, data);
		(void) es_taint_ops(upcaster->ops, &before, data);
	}
	return n;
}

/* Tells whether a look is about the type of an upcaster. */
static bool
looks_at_type(const KeyLook *look, const EsUpcaster *upcaster)
{
	return look->type == NULL ||
		es_upcast_is_of_type(upcaster, VARDATA_ANY(look->type), VARSIZE_ANY_EXHDR(look->type));
}

/* Tells whether keys are taken from where upcasters leave what is at some places of data. */
static bool
takes_key_upcast_from(const KeyLook *look, const EsLeaves *stored)
{
	bool		takes = false;

	for (int i = 0; i < look->upcasters->count && stored->count > 0 && !takes;)
	{
		const EsUpcaster *first = &look->upcasters->items[i];
		MemoryContext old = MemoryContextSwitchTo(look->scratch);
		EsLeaves	data = {0};

		if (looks_at_type(look, first))
			(void) es_taint_add_all(&data, stored);
		i = follow_type_upcasters(look->upcasters, i, &data);
		takes = data.count > 0 &&
			key_path_meets(es_keymap_path(look->map, PointerGetDatum(cstring_to_text_with_len(first->type, first->type_len))), &data);
		MemoryContextSwitchTo(old);
		MemoryContextReset(look->scratch);
	}
	return takes;
}

/*
 * Tells whether keys are taken from what is protected in one of some categories.  Each is by
 * itself, and one that is too much to be followed counts as protected as a whole.
 */
static bool
takes_key_of_any(const KeyLook *look, const EsNames *categories)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "eventstore category", ALLOCSET_DEFAULT_SIZES);
	bool		takes = false;
	ListCell   *cell;

	foreach(cell, es_coverage_categories(categories))
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		EsLeaves	alone = {0};

		CHECK_FOR_INTERRUPTS();
		if (!es_coverage_leaves_of(lfirst(cell), &alone))
			es_taint_take_whole(&alone);
		takes = takes_key_upcast_from(look, &alone);
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
		if (takes)
			break;
	}
	MemoryContextDelete(context);
	return takes;
}

/*
 * Tells whether keys are taken from where upcasters, of a type or of all, leave what is protected
 * in some categories.  Where that is too much to be followed at once, categories are by
 * themselves.
 */
static bool
takes_upcast_key(const EsKeyMap *map, const EsNames *categories, const text *type)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "eventstore keys", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	KeyLook		look = {.map = map,.type = type,.upcasters = es_upcast_pin(context)};
	EsLeaves	stored = {0};
	bool		takes = false;

	look.scratch = AllocSetContextCreate(context, "eventstore type", ALLOCSET_DEFAULT_SIZES);
	if (look.upcasters->count > 0)
		takes = es_coverage_leaves(categories, &stored) ? takes_key_upcast_from(&look, &stored) :
			takes_key_of_any(&look, categories);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	return takes;
}

/* Tells whether keys are taken from what is protected in some categories. */
static bool
takes_protected_key(const EsKeyMap *map, const EsNames *categories)
{
	if (key_path_is_protected(categories, map->others))
		return true;
	for (int i = 0; i < map->count; i++)
		if (key_path_is_protected(categories, map->types[i].path))
			return true;
	return takes_upcast_key(map, categories, NULL);
}

/* es_protect_check_key raises 22023 if a new projection takes a key from a protected field. */
void
es_protect_check_key(const EsProjection *projection)
{
	if (projection->key == NULL || !es_protection_any() ||
		!takes_protected_key(es_keymap_compile(unconstify(text *, projection->key)), &projection->categories))
		return;
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("key of projection \"%s\" must not come from a protected field", es_names_show_text(projection->name)),
			errdetail("Keys are stored as they are."),
			errhint("See es_protections for the fields, and take a key that tells nothing of them."));
}

/* Tells whether events of a category are a projection's. */
static bool
covers_category(const EsProjection *projection, const text *category)
{
	return !projection->categories.set ||
		es_names_have(&projection->categories, VARDATA_ANY(category), VARSIZE_ANY_EXHDR(category));
}

/* Raises 55000 if a projection takes a key from what is protected now in a category of its own. */
static void
check_existing_keys(text *category)
{
	const EsProjectionSet *set = es_projection_pin(CurrentMemoryContext);
	EsNames		only = es_names_of_one(category);

	es_headway_enter(ES_PHASE_PROJECTIONS, set->count);
	for (int i = 0; i < set->count; i++)
	{
		const EsProjection *projection = &set->projections[i];

		CHECK_FOR_INTERRUPTS();
		es_headway_reach(i);
		if (projection->key_map && covers_category(projection, category) &&
			takes_protected_key(projection->key_map, &only))
			ereport(ERROR,
					errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("cannot protect fields that projection \"%s\" takes its keys from",
						   es_names_show_text(projection->name)),
					errdetail("Keys are stored as they are."),
					errhint("Drop the projection, or make it with another key."));
	}
}

/* Raises 55000 if a projection takes keys from where a type's upcasters leave protected data. */
static void
check_upcast_keys(const text *type)
{
	const EsProjectionSet *set;

	es_projection_keep_defined();
	set = es_projection_pin(CurrentMemoryContext);
	for (int i = 0; i < set->count; i++)
	{
		const EsProjection *projection = &set->projections[i];

		CHECK_FOR_INTERRUPTS();
		if (projection->key_map && takes_upcast_key(projection->key_map, &projection->categories, type))
			ereport(ERROR,
					errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("cannot put protected fields, or what is made of them, where projection \"%s\" takes its keys from",
						   es_names_show_text(projection->name)),
					errdetail("Keys are stored as they are."),
					errhint("Drop the projection, or make it with another key."));
	}
}

/* Has keys of projections looked at as upcasters are registered; called once, from _PG_init. */
void
es_protect_init(void)
{
	es_evolve_upcast_hook = check_upcast_keys;
}

/* ---- paths ---- */

/* Tells whether one of two paths leads to what the other one leads to, or into it. */
static inline bool
path_is_within(const FieldPath *inner, const FieldPath *outer)
{
	return es_protection_is_within(inner->keys, inner->nkeys, outer->keys, outer->nkeys);
}

/* Raises 22023 for a path that lies in another one. */
ES_NORETURN static void
refuse_inner_path(const FieldPath *inner, const FieldPath *outer)
{
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			inner->nkeys == outer->nkeys ?
			errmsg("paths \"%s\" and \"%s\" lead to the same field", es_names_show_text(inner->text),
				   es_names_show_text(outer->text)) :
			errmsg("path \"%s\" leads into the field of path \"%s\", which is protected as a whole",
				   es_names_show_text(inner->text), es_names_show_text(outer->text)));
}

/* Takes the argument paths; NULL is 22004, what is no path of a field, or in another, 22023. */
static void
take_paths(Wanted *wanted, FunctionCallInfo fcinfo)
{
	EsNames		names;
	int			count;

	es_call_require(fcinfo, 1, "paths");
	names = es_names_arg(fcinfo, 1, ES_NAME_PATH, "paths");
	count = ArrayGetNItems(ARR_NDIM(PG_GETARG_ARRAYTYPE_P(1)), ARR_DIMS(PG_GETARG_ARRAYTYPE_P(1)));
	if (names.count < count)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"paths\" has a path more than once"));
	if (names.count > MOST_PATHS)
		ereport(ERROR,
				errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				errmsg("argument \"paths\" must not have more than %d paths", MOST_PATHS));
	wanted->paths = palloc(sizeof(FieldPath) * Max(names.count, 1));
	for (int i = 0; i < names.count; i++)
	{
		FieldPath  *path = &wanted->paths[wanted->count];

		CHECK_FOR_INTERRUPTS();
		path->text = names.names[i];
		path->keys = es_protection_compile_path(path->text, &path->nkeys);
		for (int j = 0; j < wanted->count; j++)
			if (path_is_within(path, &wanted->paths[j]))
				refuse_inner_path(path, &wanted->paths[j]);
			else if (path_is_within(&wanted->paths[j], path))
				refuse_inner_path(&wanted->paths[j], path);
		wanted->count++;
	}
}

/* Takes the argument subject; NULL is 22004 unless there are no paths. */
static void
take_subject(Wanted *wanted, FunctionCallInfo fcinfo)
{
	if (wanted->count == 0 && PG_ARGISNULL(2))
		return;
	es_call_require(fcinfo, 2, "subject");
	es_names_check(PG_GETARG_TEXT_PP(2), ES_NAME_PATH);
	wanted->subject_value = es_protection_compile_subject(PG_GETARG_TEXT_PP(2));
	if (wanted->count > 0)
		wanted->subject = PG_GETARG_TEXT_PP(2);
}

/* Tells whether a path of the definition stays beside the new ones; 22023 if one leads into it. */
static bool
path_stays(const Wanted *wanted, const FieldPath *path)
{
	for (int i = 0; i < wanted->count; i++)
	{
		if (path_is_within(path, &wanted->paths[i]))
			return false;
		if (path_is_within(&wanted->paths[i], path))
			refuse_inner_path(&wanted->paths[i], path);
	}
	return true;
}

/* Adds what is protected already; what a new path takes in goes. */
static void
add_present_paths(Wanted *wanted, const EsProtection *present)
{
	FieldPath  *paths = palloc(sizeof(FieldPath) * (wanted->count + present->paths.count));
	int			count = 0;

	for (int i = 0; i < present->paths.count; i++)
	{
		FieldPath	path = {.text = DatumGetTextPCopy(PointerGetDatum(present->paths.names[i]))};

		path.keys = es_protection_compile_path(path.text, &path.nkeys);
		if (path_stays(wanted, &path))
			paths[count++] = path;
	}
	if (count + wanted->count > MOST_PATHS)
		ereport(ERROR,
				errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				errmsg("category \"%s\" must not have more than %d protected paths",
					   text_to_cstring(wanted->category), MOST_PATHS));
	memcpy(&paths[count], wanted->paths, sizeof(FieldPath) * wanted->count);
	wanted->paths = paths;
	wanted->count += count;
}

/* Tells whether the definition that there is says what is wanted. */
static bool
is_defined_already(const Wanted *wanted, const EsProtection *present)
{
	if (present == NULL)
		return wanted->count == 0;
	if (wanted->count != present->paths.count || !es_names_same(wanted->subject, present->subject))
		return false;
	for (int i = 0; i < wanted->count; i++)
		if (!es_names_have(&present->paths, VARDATA_ANY(wanted->paths[i].text), VARSIZE_ANY_EXHDR(wanted->paths[i].text)))
			return false;
	return true;
}

/* Tells whether the subject's value is, or is in, a field that is protected. */
static bool
subject_is_protected(const Wanted *wanted)
{
	FieldPath	subject = {0};

	if (wanted->count == 0 || !es_value_mentions(wanted->subject_value, ES_ROOT_DATA))
		return false;
	subject.keys = es_value_path_keys(wanted->subject_value, &subject.nkeys);
	if (subject.keys == NULL)
		return true;			/* it may come to any */
	for (int i = 0; i < wanted->count; i++)
		if (path_is_within(&subject, &wanted->paths[i]) || path_is_within(&wanted->paths[i], &subject))
			return true;
	return false;
}

/* ---- the definition ---- */

/*
 * Raises 22023 for "*": where rights and retention are told it is all categories, and whoever
 * means that here would have nothing protected but streams whose names begin with "*-".
 */
static void
refuse_all_categories(const text *category)
{
	if (es_grantrow_category(category) == NULL)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("cannot protect fields of all categories at once"),
				errhint("Call es_protect for each category."));
}

/* Writes the definition, which holds after a position. */
static void
put_definition(const Wanted *wanted, int64 position)
{
	EsNames		paths = {.set = true};
	Datum		values[Natts_protections];
	bool		isnull[Natts_protections] = {false};

	for (int i = 0; i < wanted->count; i++)
		(void) es_names_add(&paths, wanted->paths[i].text);
	values[Anum_protections_after_position - 1] = Int64GetDatum(position);
	values[Anum_protections_created_at - 1] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[Anum_protections_hashed - 1] = BoolGetDatum(subject_is_protected(wanted));
	values[Anum_protections_category - 1] = PointerGetDatum(wanted->category);
	es_columns_put(values, isnull, Anum_protections_subject, wanted->subject);
	es_columns_put_names(values, isnull, Anum_protections_paths, &paths);
	es_rows_put(&es_protection_shape, values, isnull);
	es_base_announce(&es_protection_table);
	CommandCounterIncrement();
}

/*
 * es_protect(category, paths, subject): encrypts fields of the data of a category's events
 * from now on, with the key of the subject that a path leads to in each event; no paths:
 * none from now on.  They are added to what is protected; one takes the place of those in it.
 *
 * NULL is 22004, but for a subject without paths; what is no path of a field, or leads into
 * another's, and paths for category "*", 22023; too many of them 54000.  For who has 'admin' on
 * the category, else 42501.  55000 if the master key is not to be had, or a projection, or an index
 * on one, is in the way.  Waits for changes of this kind and of projections, then for transactions
 * that have appended, and keeps others from appending to its end; a rollback undoes it.
 */
Datum
es_protect(PG_FUNCTION_ARGS)
{
	Wanted		wanted = {0};
	const EsProtected *category;
	const EsProtection *present;

	es_call_require(fcinfo, 0, "category");
	wanted.category = PG_GETARG_TEXT_PP(0);
	es_names_check(wanted.category, ES_NAME_CATEGORY);
	es_right_require(ES_RIGHT_ADMIN, wanted.category);
	take_paths(&wanted, fcinfo);
	if (wanted.count > 0)
		refuse_all_categories(wanted.category);
	take_subject(&wanted, fcinfo);
	es_subscriber_begin_change(&es_protection_table, "es_protect()");
	es_projection_keep_defined();
	category = es_protection_of_category(wanted.category);
	present = category ? es_protection_now(category) : NULL;
	if (present && wanted.count > 0)
		add_present_paths(&wanted, present);
	if (is_defined_already(&wanted, present))
		PG_RETURN_VOID();
	if (wanted.count > 0)
		es_subject_require_master();
	es_pending_flush();
	es_headway_begin(ES_COMMAND_PROTECT);
	es_headway_enter(ES_PHASE_WAITING, -1);
	put_definition(&wanted, es_streamlock_freeze());
	if (wanted.count > 0)
	{
		check_existing_keys(wanted.category);
		es_privacy_check_protect(wanted.category);
	}
	es_headway_end();
	PG_RETURN_VOID();
}
