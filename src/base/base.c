/*
 * base.c
 *		What differs between the servers that this library is built for and runs in.
 */
#include "base/base.h"

#include "access/htup_details.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/guc.h"

const char *const es_base_version = ES_VERSION;

/*
 * es_base_server_has tells whether the server that runs, which may be older than
 * the one that this was built for, has a fix that came with minor releases of 15
 * and 16; later ones have it.
 */
bool
es_base_server_has(int fixed_in_15, int fixed_in_16)
{
	static int	version = 0;

	if (version == 0)
		version = atoi(GetConfigOption("server_version_num", false, false));
	return version >= (version / 10000 > 15 ? fixed_in_16 : fixed_in_15);
}

/* es_base_wait_event gives a wait event of ours; *known, which begins as 0, keeps it. */
uint32
es_base_wait_event(uint32 *known, const char *name)
{
	if (*known == 0)
		*known = es_wait_event_new(name);
	return *known;
}

/* es_base_nap sleeps for so many microseconds, which nothing ends before. */
void
es_base_nap(long microseconds)
{
	static uint32 wait_event = 0;

	pgstat_report_wait_start(es_base_wait_event(&wait_event, "EventstoreWriters"));
	pg_usleep(microseconds);
	pgstat_report_wait_end();
}
