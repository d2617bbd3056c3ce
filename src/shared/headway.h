/*
 * headway.h
 *		How far long commands are, for es_progress.
 */
#ifndef ES_SHARED_HEADWAY_H
#define ES_SHARED_HEADWAY_H

#include "base/base.h"

/* What takes long; headway.c has names, in this order. */
typedef enum EsLongCommand
{
	ES_COMMAND_NONE,
	ES_COMMAND_REBUILD,
	ES_COMMAND_RUN_PROJECTION,
	ES_COMMAND_SCAVENGE,
	ES_COMMAND_SEAL,
	ES_COMMAND_VERIFY,
	ES_COMMAND_DETACH,
	ES_COMMAND_ATTACH,
	ES_COMMAND_SHRED,
	ES_COMMAND_ROTATE,
	ES_COMMAND_PROTECT,
	ES_COMMAND_REPLAY_CATEGORY,
	ES_COMMAND_INDEX_TYPE,
	ES_COMMAND_MAKE_SEGMENTS,
	ES_NLONGCOMMANDS
} EsLongCommand;

/* What a command is at; of what is counted in each, headway.c tells as well. */
typedef enum EsPhase
{
	ES_PHASE_STARTING,
	ES_PHASE_TAKING_IN,			/* positions */
	ES_PHASE_GOING_OVER,
	ES_PHASE_RETENTION,			/* streams */
	ES_PHASE_REMOVING,			/* events */
	ES_PHASE_FREEZING,			/* segments */
	ES_PHASE_COMPACTING,		/* rows of a segment */
	ES_PHASE_INDEXING,			/* indexes */
	ES_PHASE_HASHING,			/* positions */
	ES_PHASE_VERIFYING,			/* tiles of 256 events */
	ES_PHASE_AUDITING,
	ES_PHASE_DETACHING,			/* segments */
	ES_PHASE_WAITING,
	ES_PHASE_CHECKING,			/* pages */
	ES_PHASE_PROJECTIONS,		/* projections */
	ES_PHASE_KEYS,				/* rows of keys */
	ES_PHASE_STATES,			/* states */
	ES_PHASE_FOLDING,			/* streams */
	ES_PHASE_SNAPSHOTS,			/* streams */
	ES_PHASE_MAKING,			/* segments */
	ES_NPHASES
} EsPhase;

/* What a backend is at. */
typedef struct EsHeadway
{
	int			pid;
	Oid			role;
	const char *command;
	const char *phase;
	int64		done;
	int64		total;			/* -1: not known */
} EsHeadway;

extern void es_headway_init(void);
extern void es_headway_begin(EsLongCommand command);
extern void es_headway_enter(EsPhase phase, int64 total);
extern void es_headway_reach(int64 done);
extern void es_headway_add(int64 n);
extern void es_headway_end(void);
extern int	es_headway_read(EsHeadway **all);

#endif							/* ES_SHARED_HEADWAY_H */
