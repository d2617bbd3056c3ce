/*
 * roster.h
 *		Which databases have a store, and which worker looks after each.
 */
#ifndef ES_SHARED_ROSTER_H
#define ES_SHARED_ROSTER_H

#include "base/base.h"

#include "datatype/timestamp.h"

/* How a database is looked after. */
typedef struct EsRosterState
{
	bool		wanted;			/* it has a store, for all we know */
	bool		looked_after;	/* by a worker that stays */
	TimestampTz since;			/* when that began, or ended */
	int			held_by;		/* the pid of who wants none there; 0: nobody */
	int			workers;		/* in all databases */
	bool		left_out;		/* it is not on the roster, which is full */
} EsRosterState;

extern void es_roster_init(void);
extern bool es_roster_exists(void);
extern void es_roster_announce(void);
extern void es_roster_report_hole(int64 position);
extern void es_roster_set_room_left(bool left);

/* For statements that need a database for themselves. */
extern bool es_roster_hold(Oid database);
extern void es_roster_expel(Oid database);
extern void es_roster_let_go(Oid database);

/* For the worker of this database. */
extern bool es_roster_enter(Oid database);
extern void es_roster_confirm(void);
extern void es_roster_nudge(void);
extern bool es_roster_take_nudge(void);
extern bool es_roster_rest(void);
extern uint64 es_roster_stir(void);
extern bool es_roster_may_stay(void);
extern void es_roster_leave(bool has_store);
extern bool es_roster_delegate(uint64 bits);
extern bool es_roster_has_hole(void);
extern int64 es_roster_take_hole(void);
extern void es_roster_set_at_work(int64 projection_id, bool rebuild);
extern int64 es_roster_take_at_work(bool *rebuild);
extern bool es_roster_has_room_left(void);

/* For the launcher. */
extern void es_roster_open(void);
extern bool es_roster_take_freed(void);
extern bool es_roster_add(Oid database);
extern Oid	es_roster_next(TimestampTz now, TimestampTz *try_at);
extern int	es_roster_count_workers(void);
extern bool es_roster_is_looked_after(Oid database);
extern bool es_roster_describe(EsRosterState *state);
extern void es_roster_tried(Oid database, TimestampTz again_at);
extern void es_roster_remove(Oid database);

#endif							/* ES_SHARED_ROSTER_H */
