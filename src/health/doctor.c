/*
 * doctor.c
 *		What is wrong with the store, or holds something back, and what helps.
 *
 * es_doctor() looks at one subject after the other.  A look is a function of SQL beside
 * this file, eventstore.look_at_<subject>, which is told who asks and gives a row for each
 * finding; a subject of which nothing was found gets a row that says so.
 *
 * It is asked when things are not as they should be, so nothing is relied on.  Each look is a
 * subtransaction of its own: what it cannot look at is a finding, and the others come
 * nevertheless.  But to be cancelled, or ended, ends all of it.  Nor does a look wait: the
 * tables that it reads are locked before, if they are free at once, else a finding says who has
 * them.  Should a lock be asked for that this did not know of, lock_timeout ends that look.
 *
 * A look runs as the extension's owner, who may see all of the store, with settings of our own
 * (base/owner.c), and reads only.  Looks are functions of the extension, so what they are is
 * the owner's to say, and they get no more than his rights.  What the caller may not see without a
 * right on events, or of other sessions, the look leaves out: it is told who asks.
 *
 * Nothing here is kept.  The locks stay to the end of the transaction, as those of any SELECT do.
 */
#include "health/doctor.h"

#include "access/htup_details.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "base/call.h"
#include "base/error.h"
#include "base/objects.h"
#include "base/owner.h"
#include "base/pending.h"
#include "base/quiet.h"
#include "health/viewer.h"
#include "log/settle.h"
#include "log/subscriber.h"
#include "rights/right.h"
#include "shared/mark.h"
#include "shared/roster.h"

#define LOOK_AT			"SELECT (f).severity, (f).finding, (f).detail, (f).remedy FROM eventstore.look_at_%s(" \
	"ROW($1, $2, $3, $4, $5, $6, $7, $8)::eventstore.visit) f"
#define MOST_TABLES		7
#define Natts_visit		8
#define Natts_finding	4

PG_FUNCTION_INFO_V1(es_doctor);

/* What is looked at. */
typedef struct Subject
{
	const char *name;
	const char *well;			/* what is said if nothing is found */
	bool		of_positions;	/* nothing is to be concluded from them while
								 * the store is being loaded */
	const char *tables[MOST_TABLES];	/* and sequences, that the look reads */
} Subject;

static const Subject subjects[] = {
	{"library", "the library is the one that belongs to the extension"},
	{"settings", "the server's settings do not harm the store"},
	{"worker", "the background work goes on"},
	{"holdup", "nothing holds the settled position back", true,
	{"position_seq", "stream_id_seq", "subscription_id_seq", "projection_id_seq", "streams", "segments", "settled_mark"}},
	{"segments", "all segments are in their places", false, {"segments", "detached_segments", "maker_failure"}},
	{"indexes", "all indexes are there", false, {"indexed_types"}},
	{"guards", "the store is guarded"},
	{"tables", "the tables are vacuumed"},
	{"projections", "all projections run", true, {"projections", "projection_progress", "reducers", "segments", "settled_mark"}},
	{"subscriptions", "all subscriptions are polled", true,
	{"subscriptions", "subscription_partitions", "subscription_failures", "segments", "settled_mark"}},
	{"functions", "all functions that handle events are there", false, {"reducer_handlers", "upcasters", "projections"}},
	{"feeds", "feeds and slots hold nothing back", false, {"feeds", "feed_definitions"}},
	{"standbys", "standbys follow", false, {"timeline_seq", "segments", "settled_mark", "position_seq"}},
	{"copies", "logical copies of the store are whole", false, {"segments"}},
	{"rights", "all grants are to somebody and on something", false, {"grants", "streams"}},
	{"secrets", "keys of protected fields are at hand", false, {"protections", "subjects"}},
	{"evidence", "the log is sealed as often as is set", true, {"seals", "segments", "settled_mark"}},
	{"retention", "what ages out is hidden, and what is hidden removed", true,
	{"retention", "retention_skips", "streams", "projection_progress", "subscription_partitions", "subscription_failures", "segments"}}
};

static const char *const severities[] = {"critical", "warning", "notice", "ok"};

/* A row of the result. */
typedef struct Finding
{
	const char *severity;
	const char *finding;
	const char *detail;			/* NULL: there is none */
	const char *remedy;			/* NULL: there is none */
} Finding;

/* A call on its way; its memory is the call's. */
typedef struct Doctor
{
	MemoryContext context;
	Datum		visit[Natts_visit]; /* what looks are told */
	bool		loading;
	List	   *findings;		/* of Finding */
} Doctor;

/* A look on its way. */
typedef struct Look
{
	Doctor	   *doctor;
	const Subject *subject;
	Oid			locked;			/* a table that somebody has for himself;
								 * InvalidOid: none */
	List	   *findings;		/* of Finding; kept if all goes well */
} Look;

static int	patience = 60 * 1000;	/* GUC eventstore.doctor_patience, ms */

/* Defines the GUC; called once, from _PG_init. */
void
es_doctor_init(void)
{
	DefineCustomIntVariable("eventstore.doctor_patience",
							"How long something may take before es_doctor() calls it a finding.",
							"A transaction in front of the settled position, say, or events that nobody takes.",
							&patience, 60 * 1000, 0, INT_MAX,
							PGC_USERSET, GUC_UNIT_MS, NULL, NULL, NULL);
}

/* ---- findings ---- */

/* Adds a finding to a list. */
static List *
add_finding(List *findings, const Finding *finding)
{
	Finding    *added = palloc(sizeof(Finding));

	*added = *finding;
	return lappend(findings, added);
}

/* Puts a finding into the result. */
static void
put_finding(ReturnSetInfo *result, const Finding *finding)
{
	const char *columns[Natts_finding] = {finding->severity, finding->finding, finding->detail, finding->remedy};
	Datum		values[Natts_finding] = {0};
	bool		isnull[Natts_finding];

	for (int i = 0; i < Natts_finding; i++)
	{
		isnull[i] = columns[i] == NULL;
		if (!isnull[i])
			values[i] = CStringGetTextDatum(columns[i]);
	}
	tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
}

/* Puts all findings into the result, the worst first. */
static void
put_findings(ReturnSetInfo *result, List *findings)
{
	for (int i = 0; i < lengthof(severities); i++)
	{
		ListCell   *cell;

		foreach(cell, findings)
		{
			const Finding *finding = lfirst(cell);

			if (strcmp(finding->severity, severities[i]) == 0)
				put_finding(result, finding);
		}
	}
}

/* ---- a look ---- */

/* Locks what a look reads; false if somebody has it for himself. */
static bool
lock_tables_of(Look *look)
{
	Oid			schema = es_base_store()->schema;

	for (int i = 0; i < MOST_TABLES && look->subject->tables[i]; i++)
	{
		Oid			relid = get_relname_relid(look->subject->tables[i], schema);

		/* what is gone the look itself will report */
		if (!OidIsValid(relid) || ConditionalLockRelationOid(relid, AccessShareLock))
			continue;
		look->locked = relid;
		return false;
	}
	return true;
}

/* A value of a row of SPI's, in the call's memory. */
static char *
copy_value(const Doctor *doctor, uint64 row, int column)
{
	char	   *value = SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column);

	return value ? MemoryContextStrdup(doctor->context, value) : NULL;
}

/* Takes what a look has found. */
static void
take_findings(Look *look)
{
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		Finding		finding;
		MemoryContext old;

		finding.severity = copy_value(look->doctor, i, 1);
		finding.finding = copy_value(look->doctor, i, 2);
		finding.detail = copy_value(look->doctor, i, 3);
		finding.remedy = copy_value(look->doctor, i, 4);
		old = MemoryContextSwitchTo(look->doctor->context);
		look->findings = add_finding(look->findings, &finding);
		MemoryContextSwitchTo(old);
	}
}

/* Runs a query about a look, as the owner, who waits for nobody. */
static void
run_look_query(Look *look, const char *sql, int nargs, Oid *types, Datum *values)
{
	EsOwnerContext saved;

	es_owner_enter(&saved);
	es_viewer_limit_waits();
	(void) set_config_option("jit", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	SPI_connect();
	if (SPI_execute_with_args(sql, nargs, types, values, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not run \"%s\"", sql);
	take_findings(look);
	SPI_finish();
	es_owner_leave(&saved);
}

/* Looks at a subject, unless somebody has a table of it for himself; in a subtransaction. */
static void
look_at_subject(void *arg)
{
	static Oid	types[Natts_visit] = {OIDOID, BOOLOID, INTERVALOID, BOOLOID, BOOLOID, BOOLOID, BOOLOID, TEXTOID};
	Look	   *look = arg;

	if (lock_tables_of(look))
		run_look_query(look, psprintf(LOOK_AT, look->subject->name), Natts_visit, types, look->doctor->visit);
}

/* Finds who has a table for himself, and makes a finding of it; in a subtransaction. */
static void
look_who_has_table(void *arg)
{
	static Oid	types[2] = {OIDOID, TEXTOID};
	Look	   *look = arg;
	Datum		values[2] = {ObjectIdGetDatum(look->locked), CStringGetTextDatum(look->subject->name)};

	run_look_query(look, "SELECT 'notice', 'a table is locked, and its subject was not looked at',"
				   " format('%s: table %s is locked by %s.', $2, $1::regclass,"
				   " COALESCE(string_agg(COALESCE('process ' || l.pid, 'a prepared transaction'), ', '), 'somebody who has just ended')),"
				   " string_agg(DISTINCT format('SELECT pg_terminate_backend(%s)', l.pid), '; ') FILTER (WHERE l.pid IS NOT NULL)"
				   " FROM pg_locks l WHERE l.locktype = 'relation' AND l.relation = $1 AND l.mode = 'AccessExclusiveLock'"
				   " AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())", 2, types, values);
}

/* What an error says, as a finding. */
static List *
report_failed_look(const Subject *subject, const ErrorData *error)
{
	Finding		finding = {"critical", "a subject could not be looked at",.remedy = error->hint};

	finding.detail = psprintf("%s: error %s: %s%s%s", subject->name, unpack_sql_state(error->sqlerrcode),
							  error->message ? error->message : "", error->detail ? "  " : "", error->detail ? error->detail : "");
	return add_finding(NIL, &finding);
}

/* Does a part of a look; what it raises becomes a finding, unless it is none of its doing. */
static void
try_look(Look *look, EsQuietWork work)
{
	ErrorData  *error = es_quiet_try(work, look);

	if (error == NULL)
		return;
	if (es_error_ends_statement(error->sqlerrcode))
		ReThrowError(error);
	look->locked = InvalidOid;
	look->findings = report_failed_look(look->subject, error);
}

/* Looks at a subject and adds what there is to say of it. */
static void
add_subject(Doctor *doctor, const Subject *subject)
{
	Look		look = {.doctor = doctor,.subject = subject};
	Finding		well = {"ok", subject->well};

	CHECK_FOR_INTERRUPTS();
	if (subject->of_positions && doctor->loading)
		well.detail = "This was not looked at, as the store is being loaded.";
	else
		try_look(&look, look_at_subject);
	if (OidIsValid(look.locked))
		try_look(&look, look_who_has_table);
	if (look.findings == NIL)
		look.findings = add_finding(NIL, &well);
	doctor->findings = list_concat(doctor->findings, look.findings);
}

/* ---- the call ---- */

/* Finds out what looks are told. */
static void
prepare_visit(Doctor *doctor)
{
	Oid			sequence = get_relname_relid(es_base_position_seq.name, es_base_store()->schema);
	Interval   *waits = palloc0(sizeof(Interval));

	waits->time = patience * INT64CONST(1000);
	doctor->loading = OidIsValid(sequence) && es_sharedmark_is_loading(sequence);
	doctor->visit[0] = ObjectIdGetDatum(GetUserId());
	doctor->visit[1] = BoolGetDatum(es_right_has(ES_RIGHT_READ, NULL));
	doctor->visit[2] = IntervalPGetDatum(waits);
	doctor->visit[3] = BoolGetDatum(es_roster_exists());
	doctor->visit[4] = BoolGetDatum(RecoveryInProgress());
	doctor->visit[5] = BoolGetDatum(es_subscriber_is());
	doctor->visit[6] = BoolGetDatum(doctor->loading);
	doctor->visit[7] = CStringGetTextDatum(quote_identifier(get_namespace_name(es_base_store()->user_schema)));
}

/*
 * es_doctor(): what is wrong, or holds something back, and the statement that helps, a row
 * each, the worst first; of what is well a row with severity 'ok'.
 *
 * For who has 'admin' on all categories, and for members of pg_read_all_stats, as pg_monitor is;
 * else 42501.  Of a table that somebody has for himself it says so and does not wait.  Writes
 * nothing, and works where nothing can be written.  What it cannot look at is a finding.
 */
Datum
es_doctor(PG_FUNCTION_ARGS)
{
	Doctor		doctor = {.context = CurrentMemoryContext};
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	volatile bool worker = es_settle_for_worker;

	es_call_refuse_parallel();
	es_viewer_require("es_doctor");
	es_pending_flush();
	InitMaterializedSRF(fcinfo, 0);
	PG_TRY();
	{
		es_settle_for_worker = true;	/* to look is not to use the store */
		prepare_visit(&doctor);
		for (int i = 0; i < lengthof(subjects); i++)
			add_subject(&doctor, &subjects[i]);
	}
	PG_FINALLY();
	{
		es_settle_for_worker = worker;
	}
	PG_END_TRY();
	put_findings(result, doctor.findings);
	return (Datum) 0;
}
