/*
 * policy.c
 *		Which events age out: the rules, by category, and how far each was carried out.
 *
 * A category may be said to have no limit, with '*' for the others: then its row is there
 * with neither.  Rules are read and changed under a lock on the table, which who carries
 * them out shares with nobody (retention.c), so a rule does not change meanwhile.
 */
#include "lifecycle/policy.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "rights/right.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "base/call.h"
#include "base/names.h"
#include "base/owner.h"
#include "log/subscriber.h"
#include "shared/nudge.h"
#include "table/rows.h"

#define Anum_retention_max_age			1
#define Anum_retention_max_count		2
#define Anum_retention_arrived			3
#define Anum_retention_aged				4
#define Anum_retention_category			5
#define Natts_retention					5

EsRelation	es_policy_table = {"retention"};
static EsRelation retention_by_category = {"retention_by_category",
.index = {.keys = {Anum_retention_category},.columns = "category",.unique = true}};

static const EsColumn retention_columns[Natts_retention] = {
	{"max_age", INTERVALOID, true}, {"max_count", INT8OID, true}, {"arrived", INT8OID}, {"aged", INT8OID},
	{"category", TEXTOID}
};
const EsShape es_policy_shape = ES_SHAPE(&es_policy_table, &retention_by_category, retention_columns);

static bool has_new_rule = false;	/* this transaction has made one, or had
									 * one begin anew */

PG_FUNCTION_INFO_V1(es_set_retention);

/* Lets the worker know, once there is a rule for it to carry out. */
static void
nudge_worker_of_rule(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT && has_new_rule)
		es_nudge_worker();
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		has_new_rule = false;
}

/* es_policy_init registers the callback; called once, from _PG_init. */
void
es_policy_init(void)
{
	RegisterXactCallback(nudge_worker_of_rule, NULL);
}

/* ---- rows ---- */

/* Takes a row, in the current memory context. */
static void
take_policy(void *element, const EsRows *rows)
{
	EsPolicy   *policy = element;
	const Datum *v = rows->values;
	const bool *n = rows->isnull;

	policy->category = es_columns_text(v, n, Anum_retention_category);
	policy->is_for_others = es_names_same(policy->category, cstring_to_text(ES_POLICY_OTHERS));
	if (!n[Anum_retention_max_age - 1])
		policy->max_age = memcpy(palloc(sizeof(Interval)), DatumGetIntervalP(v[Anum_retention_max_age - 1]),
								 sizeof(Interval));
	policy->max_count = n[Anum_retention_max_count - 1] ? 0 : DatumGetInt64(v[Anum_retention_max_count - 1]);
	policy->arrived = DatumGetInt64(v[Anum_retention_arrived - 1]);
	policy->aged = DatumGetInt64(v[Anum_retention_aged - 1]);
}

/* es_policy_read_all reads all rules, in the current memory context; returns how many. */
int
es_policy_read_all(EsPolicy **policies)
{
	EsRows		rows = {.shape = &es_policy_shape,.mode = AccessShareLock,.fresh = true};
	int			count;

	es_rows_begin(&rows);
	*policies = es_rows_all(&rows, sizeof(EsPolicy), take_policy, &count);
	return count;
}

/* Makes the columns of a row. */
static void
make_policy_row(const EsPolicy *policy, Datum *v, bool *n)
{
	memset(n, false, sizeof(bool) * Natts_retention);
	es_columns_put(v, n, Anum_retention_max_age, policy->max_age);
	v[Anum_retention_max_count - 1] = Int64GetDatum(policy->max_count);
	n[Anum_retention_max_count - 1] = policy->max_count == 0;
	v[Anum_retention_arrived - 1] = Int64GetDatum(policy->arrived);
	v[Anum_retention_aged - 1] = Int64GetDatum(policy->aged);
	v[Anum_retention_category - 1] = PointerGetDatum(policy->category);
}

/* es_policy_write_progress writes how far a rule was carried out, under the caller's lock. */
void
es_policy_write_progress(const EsPolicy *policy)
{
	Datum		values[Natts_retention];
	bool		isnull[Natts_retention];

	make_policy_row(policy, values, isnull);
	es_rows_replace(&es_policy_shape, values, isnull);
}

/*
 * es_policy_go_back has rules carried out again from behind a position on, for what is new
 * there; the caller has the lock on the table that who carries them out has.
 */
void
es_policy_go_back(int64 position)
{
	EsPolicy   *policies;
	int			count = es_policy_read_all(&policies);

	for (int i = 0; i < count; i++)
	{
		EsPolicy   *policy = &policies[i];

		if (policy->arrived <= position && policy->aged <= position)
			continue;
		policy->arrived = Min(policy->arrived, position);
		policy->aged = Min(policy->aged, position);
		es_policy_write_progress(policy);
		has_new_rule = true;
	}
}

/* ---- rules ---- */

/* es_policy_is_rule tells whether a row limits anything. */
bool
es_policy_is_rule(const EsPolicy *policy)
{
	return policy->max_age != NULL || policy->max_count > 0;
}

/* es_policy_of finds the rule for a stream; NULL if there is none. */
const EsPolicy *
es_policy_of(const EsPolicy *policies, int count, const text *stream)
{
	const char *name = VARDATA_ANY(stream);
	int			len = es_names_category_length(name, VARSIZE_ANY_EXHDR(stream));
	const EsPolicy *found = NULL;

	for (int i = 0; i < count; i++)
	{
		const text *category = policies[i].category;

		if (policies[i].is_for_others && found == NULL)
			found = &policies[i];
		else if (!policies[i].is_for_others && VARSIZE_ANY_EXHDR(category) == len &&
				 memcmp(VARDATA_ANY(category), name, len) == 0)
			found = &policies[i];
	}
	return found && es_policy_is_rule(found) ? found : NULL;
}

/* Subtracts an interval from a time, by the days and months of UTC; 22008 if that is no time. */
static TimestampTz
subtract_age(TimestampTz now, const Interval *age)
{
	int			level = es_owner_enter_settings();
	Datum		then = DirectFunctionCall2(timestamptz_mi_interval, TimestampTzGetDatum(now),
										   IntervalPGetDatum(age));

	es_owner_leave_settings(level);
	return DatumGetTimestampTz(then);
}

/* es_policy_cutoff tells before which time events are too old; DT_NOBEGIN: none is. */
TimestampTz
es_policy_cutoff(const EsPolicy *policy, TimestampTz now)
{
	return policy->max_age ? subtract_age(now, policy->max_age) : DT_NOBEGIN;
}

/* ---- SQL ---- */

/* Raises 22023 unless limits are limits. */
static void
check_limits(const EsPolicy *policy, bool has_count)
{
	const Interval *age = policy->max_age;

	if (has_count && policy->max_count < 1)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"max_count\" must be at least 1, not %lld", (long long) policy->max_count));

	/* what is less in one unit may come to nothing at the end of a month */
	if (age && (age->month < 0 || age->day < 0 || age->time < 0 || (age->month == 0 && age->day == 0 && age->time == 0)))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"max_age\" must be greater than zero, not %s",
					   DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(policy->max_age)))));
	/* raises where that is too long ago for any time */
	if (age)
		(void) subtract_age(GetCurrentTimestamp(), age);
}

/*
 * es_set_retention(category, max_age, max_count): says how old the events of a category's
 * streams may become, and how many of them a stream may have; what is older, or more, is
 * hidden as es_truncate_stream does, by the worker or whoever calls es_scavenge.
 *
 * '*' is for all categories of which nothing was said.  NULL is no limit.  A limit that
 * is not above 0, and what no category is called, is 22023; NULL category is 22004.  For
 * who has 'admin' on the category, else 42501.  Waits for other changes, and for who is
 * carrying rules out; a rollback undoes it.
 */
Datum
es_set_retention(PG_FUNCTION_ARGS)
{
	EsPolicy	policy = {0};
	Datum		values[Natts_retention];
	bool		isnull[Natts_retention];

	es_call_require(fcinfo, 0, "category");
	policy.category = PG_GETARG_TEXT_PP(0);
	es_names_check(policy.category, ES_NAME_CATEGORY);
	policy.max_age = PG_ARGISNULL(1) ? NULL : PG_GETARG_INTERVAL_P(1);
	policy.max_count = PG_ARGISNULL(2) ? 0 : PG_GETARG_INT64(2);
	policy.is_for_others = es_names_same(policy.category, cstring_to_text(ES_POLICY_OTHERS));
	es_right_require(ES_RIGHT_ADMIN, policy.is_for_others ? NULL : policy.category);
	check_limits(&policy, !PG_ARGISNULL(2));
	es_subscriber_begin_change(&es_policy_table, "es_set_retention()");
	if (!es_policy_is_rule(&policy) && policy.is_for_others)
	{
		Datum		key = PointerGetDatum(policy.category);

		(void) es_rows_take_away(&es_policy_shape, &key, 1);
		PG_RETURN_VOID();
	}
	make_policy_row(&policy, values, isnull);
	es_rows_put(&es_policy_shape, values, isnull);
	has_new_rule = true;
	PG_RETURN_VOID();
}
