/*
 * upcast.h
 *		Upcasters: what makes the data of old events look like new ones'.
 */
#ifndef ES_TYPE_UPCAST_H
#define ES_TYPE_UPCAST_H

#include "base/base.h"

#include "utils/jsonb.h"

#include "base/event.h"
#include "base/pin.h"
#include "json/opcompile.h"
#include "table/columns.h"
#include "type/handler.h"

/* Columns of eventstore.upcasters. */
#define Anum_upcasters_after_position	1
#define Anum_upcasters_from_version		2
#define Anum_upcasters_type				3
#define Anum_upcasters_handler			4
#define Anum_upcasters_ops				5
#define Natts_upcasters					5

/* What takes the data of events of a type from one version to the next. */
typedef struct EsUpcaster
{
	const char *type;
	int			type_len;
	int			from_version;
	EsOps	   *ops;			/* or NULL: */
	EsFunction	function;
	const Jsonb *source;		/* of ops */
} EsUpcaster;

typedef struct EsUpcasters
{
	int			count;
	EsUpcaster *items;			/* in order of type, then version */
	EsPinned	pinned;
} EsUpcasters;

extern const EsShape es_upcast_shape;
extern const EsSignature es_upcast_signature;	/* of functions */

/* es_upcast_is_of_type tells whether an upcaster is of a type. */
static inline bool
es_upcast_is_of_type(const EsUpcaster *upcaster, const char *type, int len)
{
	return upcaster->type_len == len && memcmp(upcaster->type, type, len) == 0;
}

extern const EsUpcasters *es_upcast_pin(MemoryContext holder);
extern bool es_upcast_wants(const EsUpcasters *upcasters, const EsEvent *event);

/* Gives an event its newest form; what is new of it is in the current memory context. */
extern void es_upcast_event(const EsUpcasters *upcasters, EsCalls *calls, EsEvent *event);

/*
 * es_upcast_show does so with an event as it is stored, after its protected fields are made
 * plain; tells whether it had any.
 */
extern bool es_upcast_show(const EsUpcasters *upcasters, EsCalls *calls, EsEvent *event);

#endif							/* ES_TYPE_UPCAST_H */
