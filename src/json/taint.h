/*
 * taint.h
 *		Which places of a state hold values of certain places of events' data.
 */
#ifndef ES_JSON_TAINT_H
#define ES_JSON_TAINT_H

#include "base/base.h"

#include "json/node.h"
#include "json/opcompile.h"

/* A place in a document; a step without bytes is any element of an array. */
typedef struct EsLeaf
{
	int			count;
	EsKey	   *steps;
} EsLeaf;

typedef struct EsLeaves
{
	int			count;
	int			room;
	EsLeaf	   *items;
} EsLeaves;

/*
 * es_taint_add adds a place, in the current memory context, unless it is there; false if
 * there are too many, or it is too deep.
 */
extern bool es_taint_add(EsLeaves *leaves, const EsKey *steps, int count);
extern bool es_taint_add_below(EsLeaves *leaves, const char *member, const EsLeaves *more);
extern bool es_taint_add_all(EsLeaves *leaves, const EsLeaves *more);

/* es_taint_take_whole makes the whole document the only place: anything may be anywhere. */
extern void es_taint_take_whole(EsLeaves *leaves);

/* es_taint_meets tells whether keys, all of members, lead to, above or into a leaf. */
extern bool es_taint_meets(const EsLeaves *leaves, const EsKey *keys, int count);

/*
 * es_taint_ops adds to the leaves of a state those that operations give it by copying what
 * is at leaves of the data, or of the state itself, as it is; false if they may do anything
 * else with what is there: then also where they leave what they make of it.  To be called until
 * there are no more.
 */
extern bool es_taint_ops(const EsOps *ops, const EsLeaves *data, EsLeaves *state);

#endif							/* ES_JSON_TAINT_H */
