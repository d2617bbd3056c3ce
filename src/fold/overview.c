/*
 * overview.c
 *		What there is to see of reducers and snapshots.
 *
 * Views must not fail of what they show: a type that is gone, a handler in a schema that
 * the store's owner may not use any more.  So whatever resolves names runs in a
 * subtransaction, and what raises there counts as not being there.  What is
 * nobody's fault, such as a cancellation or a lack of memory, is passed on.
 */
#include "base/base.h"

#include "utils/builtins.h"
#include "utils/hsearch.h"

#include "base/error.h"
#include "base/names.h"
#include "base/owner.h"
#include "base/quiet.h"
#include "fold/reducer.h"
#include "fold/resolve.h"
#include "secret/bundle.h"

PG_FUNCTION_INFO_V1(es_reducer_state_type);
PG_FUNCTION_INFO_V1(es_snapshot_usable);

/* A reducer as it is now, for one statement. */
typedef struct OverviewReducer
{
	const text *name;			/* hash key */
	bool		resolved;		/* else no replay can use it */
	uint8		fingerprint[ES_FINGERPRINT_LENGTH];
} OverviewReducer;

/*
 * Does something in a subtransaction; tells whether it went well.  What it raises because
 * of the session or a lack of resources is raised.
 */
static bool
went_well(EsQuietWork work, void *arg)
{
	ErrorData  *error = es_quiet_try(work, arg);

	if (error == NULL)
		return true;
	if (es_error_passes_through(error->sqlerrcode))
		ReThrowError(error);
	FreeErrorData(error);
	return false;
}

/* A type that is looked up by its name. */
typedef struct TypeSearch
{
	Datum		name;
	bool		found;
	Oid			type;
} TypeSearch;

/* Looks a type up, as the owner, whose eyes folds have. */
static void
look_up_state_type(void *arg)
{
	TypeSearch *search = arg;
	EsOwnerContext caller;

	LOCAL_FCINFO(fcinfo, 1);

	InitFunctionCallInfoData(*fcinfo, NULL, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = search->name;
	fcinfo->args[0].isnull = false;
	es_owner_enter(&caller);
	search->type = DatumGetObjectId(to_regtype(fcinfo));
	es_owner_leave(&caller);
	search->found = !fcinfo->isnull;
}

/*
 * reducer_state_type(name): the type of a qualified name as eventstore.reducers has it;
 * NULL if it is gone, and for NULL.  Behind the view es_reducers.
 */
Datum
es_reducer_state_type(PG_FUNCTION_ARGS)
{
	TypeSearch	search = {.name = PG_GETARG_DATUM(0)};

	if (!went_well(look_up_state_type, &search) || !search.found)
		PG_RETURN_NULL();
	PG_RETURN_OID(search.type);
}

/* Finds out a reducer's fingerprint. */
static void
resolve_fingerprint(void *arg)
{
	OverviewReducer *entry = arg;
	const EsReducer *reducer = es_resolve_pin(entry->name, CurrentMemoryContext);

	if (reducer)
		memcpy(entry->fingerprint, reducer->fingerprint, ES_FINGERPRINT_LENGTH);
	entry->resolved = reducer != NULL;
}

/* Finds a reducer among those that the statement which calls a function has met. */
static const OverviewReducer *
find_overview_reducer(FmgrInfo *function, text *name)
{
	OverviewReducer *entry;
	bool		found;

	if (function->fn_extra == NULL)
		function->fn_extra = es_names_map("eventstore overview", 16, sizeof(OverviewReducer), function->fn_mcxt);
	entry = hash_search(function->fn_extra, &name, HASH_FIND, NULL);
	if (entry == NULL)
	{
		OverviewReducer made = {0};
		MemoryContext old = MemoryContextSwitchTo(function->fn_mcxt);

		made.name = (text *) pg_detoast_datum_copy((struct varlena *) name);
		MemoryContextSwitchTo(old);
		made.resolved = went_well(resolve_fingerprint, &made) && made.resolved;
		entry = hash_search(function->fn_extra, &made.name, HASH_ENTER, &found);
		*entry = made;
	}
	return entry;
}

/*
 * snapshot_usable(reducer, fingerprint, sealed): whether replays by a reducer, as it is now,
 * go on from a snapshot with that fingerprint, and that encrypted state, NULL if it has none;
 * NULL for other NULLs.  Behind the view es_snapshots.
 */
Datum
es_snapshot_usable(PG_FUNCTION_ARGS)
{
	const OverviewReducer *reducer;
	bytea	   *fingerprint;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	reducer = find_overview_reducer(fcinfo->flinfo, PG_GETARG_TEXT_PP(0));
	fingerprint = PG_GETARG_BYTEA_PP(1);
	PG_RETURN_BOOL(reducer->resolved && (PG_ARGISNULL(2) || es_bundle_can_open(PG_GETARG_TEXT_PP(2))) && VARSIZE_ANY_EXHDR(fingerprint) == ES_FINGERPRINT_LENGTH &&
				   memcmp(VARDATA_ANY(fingerprint), reducer->fingerprint, ES_FINGERPRINT_LENGTH) == 0);
}
