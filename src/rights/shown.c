/*
 * shown.c
 *		What views show of what there is in the store, and to whom.
 *
 * The views are security barriers that ask these functions, row by row or once.  For the
 * store's owner and superusers each answer is one comparison.
 */
#include "base/base.h"

#include "miscadmin.h"
#include "utils/acl.h"

#include "base/call.h"
#include "base/names.h"
#include "rights/right.h"

PG_FUNCTION_INFO_V1(es_shown_may_see_all);
PG_FUNCTION_INFO_V1(es_shown_may_see_some);
PG_FUNCTION_INFO_V1(es_shown_may_read_all);
PG_FUNCTION_INFO_V1(es_shown_may_anything);
PG_FUNCTION_INFO_V1(es_shown_require_read);

/* Tells whether the current user has one of some rights in each category of an argument. */
static bool
has_right_on_arg(FunctionCallInfo fcinfo, int rights)
{
	EsNames		categories = es_names_of_column(PG_GETARG_DATUM(0), PG_ARGISNULL(0));

	return es_right_has_all(rights, &categories);
}

/*
 * eventstore.may_see_all(categories): whether the current user may learn of something that is made
 * of some categories, NULL: of all: 'read' or 'admin' on each.
 */
Datum
es_shown_may_see_all(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(has_right_on_arg(fcinfo, ES_RIGHT_READ | ES_RIGHT_ADMIN));
}

/*
 * eventstore.may_see_some(categories): whether the current user has 'read' or 'admin' on one of
 * some categories, NULL: on any that there is.
 */
Datum
es_shown_may_see_some(PG_FUNCTION_ARGS)
{
	EsNames		categories = es_names_of_column(PG_GETARG_DATUM(0), PG_ARGISNULL(0));

	if (!categories.set)
		PG_RETURN_BOOL(es_right_has_any(ES_RIGHT_READ | ES_RIGHT_ADMIN));
	for (int i = 0; i < categories.count; i++)
		if (es_right_has(ES_RIGHT_READ | ES_RIGHT_ADMIN, categories.names[i]))
			PG_RETURN_BOOL(true);
	PG_RETURN_BOOL(es_right_has(ES_RIGHT_READ | ES_RIGHT_ADMIN, NULL));
}

/*
 * eventstore.may_read_all(categories): the same as may_see_all by 'read' alone, for
 * what may tell of events' data.
 */
Datum
es_shown_may_read_all(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(has_right_on_arg(fcinfo, ES_RIGHT_READ));
}

/* eventstore.may_anything(): whether the current user has some right on something. */
Datum
es_shown_may_anything(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(es_right_has_any(ES_RIGHTS_ALL));
}

/*
 * eventstore.require_read(role, categories): true if a role has 'read' on each of some
 * categories, NULL: on all; else 42501.  A NULL role is 22004.  For views that show what
 * only that role was given; a role that is gone is 42704.
 */
Datum
es_shown_require_read(PG_FUNCTION_ARGS)
{
	EsNames		categories = es_names_of_column(PG_GETARG_DATUM(1), PG_ARGISNULL(1));
	Oid			role;
	Oid			caller;
	int			sec_context;

	es_call_require(fcinfo, 0, "role");
	role = get_role_oid(NameStr(*PG_GETARG_NAME(0)), false);
	/* an error undoes it at (sub)transaction abort */
	GetUserIdAndSecContext(&caller, &sec_context);
	SetUserIdAndSecContext(role, sec_context | SECURITY_LOCAL_USERID_CHANGE);
	es_right_require_all(ES_RIGHT_READ, &categories);
	SetUserIdAndSecContext(caller, sec_context);
	PG_RETURN_BOOL(true);
}
