/*
 * underway.c
 *		Which long commands are under way, behind es_progress.
 */
#include "base/base.h"

#include "catalog/pg_authid.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

#include "health/viewer.h"
#include "shared/headway.h"

#define Natts_underway	5

PG_FUNCTION_INFO_V1(es_commands_underway);

/*
 * commands_underway(OUT pid, OUT command, OUT phase, OUT done, OUT total): which long commands
 * run in this database, and how far they are.
 *
 * Those of others for who may see how the store is doing, one's own for everybody; total is
 * NULL where it is not known.  No rows where the library is not preloaded.  Behind the view
 * es_progress.
 */
Datum
es_commands_underway(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	bool		all = es_viewer_may();
	EsHeadway  *headways;
	int			count;

	InitMaterializedSRF(fcinfo, 0);
	count = es_headway_read(&headways);
	for (int i = 0; i < count; i++)
	{
		const EsHeadway *headway = &headways[i];
		Datum		values[Natts_underway];
		bool		isnull[Natts_underway] = {false};

		if (!all && !has_privs_of_role(GetUserId(), headway->role))
			continue;
		values[0] = Int32GetDatum(headway->pid);
		values[1] = CStringGetTextDatum(headway->command);
		values[2] = CStringGetTextDatum(headway->phase);
		values[3] = Int64GetDatum(headway->done);
		values[4] = Int64GetDatum(headway->total);
		isnull[4] = headway->total < 0;
		tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
	}
	return (Datum) 0;
}
