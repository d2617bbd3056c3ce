/*
 * outlet.c
 *		What a promotion has cost: what SQL cannot ask.
 *
 * The looks themselves are in outlet.sql.
 */
#include "base/base.h"

#include <sys/stat.h>

#include "access/xlog_internal.h"
#include "utils/timestamp.h"

#include "log/scan.h"

PG_FUNCTION_INFO_V1(es_outlet_timeline_begun);
PG_FUNCTION_INFO_V1(es_outlet_last_event_upto);

/*
 * eventstore.timeline_begun(timeline): when a timeline was begun, which is when its history was
 * written; NULL if that is not there.  What is told is the time of that file, so it is for owners
 * who may not look at the server's files, too.
 */
Datum
es_outlet_timeline_begun(PG_FUNCTION_ARGS)
{
	char		path[MAXPGPATH];
	struct stat history;

	TLHistoryFilePath(path, (TimeLineID) PG_GETARG_INT64(0));
	if (stat(path, &history) != 0)
	{
		if (errno != ENOENT)
			ereport(ERROR,
					errcode_for_file_access(),
					errmsg("could not stat file \"%s\": %m", path));
		PG_RETURN_NULL();
	}
	PG_RETURN_TIMESTAMPTZ(time_t_to_timestamptz(history.st_mtime));
}

/*
 * eventstore.last_event_upto(position): the position of the last event in the segment of a
 * position, or in those before it; 0 if there is none.
 */
Datum
es_outlet_last_event_upto(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(es_scan_last_position(PG_GETARG_INT64(0)));
}
