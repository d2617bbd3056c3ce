/*
 * objects.h
 *		Look-up of what the extension has made in this database.
 */
#ifndef ES_BASE_OBJECTS_H
#define ES_BASE_OBJECTS_H

#include "base/base.h"

#include "access/attnum.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/inval.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

/*
 * Where the extension is in this database.  Valid until the next catalog
 * invalidation, so fetch it anew in each call and do not keep it.
 */
typedef struct EsStore
{
	Oid			extension;		/* pg_extension row */
	Oid			owner;			/* the extension's owner */
	Oid			user_schema;	/* schema of the es_* functions */
	Oid			schema;			/* schema eventstore */
} EsStore;

extern const EsStore *es_base_store(void);

/* The extension's row of pg_extension. */
typedef struct EsExtension
{
	Oid			oid;			/* InvalidOid: there is none */
	Oid			schema;
	Oid			owner;
	bool		uncommitted;	/* this transaction has made it */
} EsExtension;

extern EsExtension es_base_find_extension(void);

/* es_base_is_installed tells whether the extension is there now. */
static inline bool
es_base_is_installed(void)
{
	return OidIsValid(es_base_find_extension().oid);
}

/*
 * A relation of schema eventstore, named where it is used:
 *
 *		static EsRelation skips = {"projection_skips"};
 *		static EsRelation skips_by_key = {"projection_skips_by_key",
 *			.index = {.keys = {1, 2},.columns = "projection_id, position",.unique = true}};
 *
 * What it stands for is looked up when it is asked for, and again after an
 * invalidation; see objects.c.
 */
#define ES_MOST_KEYS	3

/* What an index must be like. */
typedef struct EsIndexShape
{
	AttrNumber	keys[ES_MOST_KEYS]; /* the table's columns that it begins with */
	const char *columns;		/* their names */
	const char *where;			/* the predicate, or NULL */
	const char *qualified;		/* the same, whatever the search_path is;
								 * NULL: as it is */
	bool		unique;
	const char *method;			/* NULL: btree */
} EsIndexShape;

typedef struct EsRelation
{
	const char *name;
	char		kind;			/* RELKIND_*; 0: a table, or an index */
	EsIndexShape index;			/* of an index */

	bool		known;			/* oid is what the name stands for now */
	bool		linked;			/* among those that invalidations look at */
	Oid			oid;			/* as last looked up */
	uint64		changes;		/* see es_base_changes_of */
	Oid			table;			/* of which table an index is */
	struct EsRelation *next;
} EsRelation;

/* The log's parent table, and the streams: what most parts ask for. */
extern EsRelation es_base_events;
extern EsRelation es_base_streams;

/* The sequences, which give out nothing twice. */
extern EsRelation es_base_position_seq;
extern EsRelation es_base_stream_id_seq;
extern EsRelation es_base_subscription_id_seq;
extern EsRelation es_base_projection_id_seq;
extern EsRelation es_base_timeline_seq;

#define ES_BASE_SEQUENCES	5
extern EsRelation *const es_base_sequences[ES_BASE_SEQUENCES];

extern Oid	es_base_look_up(EsRelation *object);

/* es_base_oid gives the OID of one of our relations; 55000 if it is not there. */
static inline Oid
es_base_oid(EsRelation *object)
{
	return likely(object->known) ? object->oid : es_base_look_up(object);
}

/*
 * es_base_changes_of counts how often a relation may have changed, or become another
 * one; so what is kept of its rows holds as long as this stays.
 */
static inline uint64
es_base_changes_of(EsRelation *object)
{
	(void) es_base_oid(object);
	return object->changes;
}

/*
 * es_base_tag makes the tag of a lock on something that a relation of ours is about, or
 * on a row of it; it means nothing to the server.
 */
static inline LOCKTAG
es_base_tag(EsRelation *object, uint32 id, uint16 part)
{
	LOCKTAG		tag;

	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, es_base_oid(object), id, part);
	return tag;
}

extern bool es_base_lock_row(EsRelation *object, uint32 id, uint16 part, bool wait);
extern bool es_base_is_row_locked(EsRelation *object, uint32 id, uint16 part);
extern bool es_base_is_relation_locked(Oid relid);
extern void es_base_announce(EsRelation *object);
extern void es_base_lock(EsRelation *object, LOCKMODE mode);
extern bool es_base_try_lock(EsRelation *object, LOCKMODE mode);
extern Relation es_base_open(EsRelation *object, LOCKMODE mode);
extern Oid	es_base_index(EsRelation *object, Relation rel);
extern Relation es_base_open_index(EsRelation *object, Relation rel, LOCKMODE mode);
extern char *es_base_index_statement(const char *name, const char *table, const EsIndexShape *shape, bool qualified);
extern Oid	es_base_find_index(const char *name, Oid table, const EsIndexShape *shape);
extern Oid	es_base_usable_index(const char *name, Oid table, const EsIndexShape *shape);
extern uint64 es_base_changes(void);
extern bool es_base_sees_relation(Oid relid, Snapshot snapshot);
extern bool es_base_sees(Relation rel, Snapshot snapshot);
extern Oid	es_base_event_type(void);
extern bool es_base_owns_store(Oid role);
extern void es_base_init(void);
extern void es_base_on_relation_change(RelcacheCallbackFunction callback);

#endif							/* ES_BASE_OBJECTS_H */
