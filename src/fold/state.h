/*
 * state.h
 *		States as values of any type: to and from jsonb, and stored.
 */
#ifndef ES_FOLD_STATE_H
#define ES_FOLD_STATE_H

#include "base/base.h"

#include "lib/stringinfo.h"
#include "utils/jsonb.h"

#include "json/size.h"

/*
 * A state as snapshots and projections keep it: a jsonb, or for states of
 * another type what its output function makes of it; or either, encrypted as a whole.
 */
typedef struct EsStoredState
{
	bool		isnull;
	Jsonb	   *json;
	text	   *text;
	text	   *sealed;			/* see secrecy.h; then there is nothing else */
	bool		too_large;		/* to be encrypted; it is not here */
	bool		too_many;		/* subjects' data are in it; it is not here */
} EsStoredState;

/* es_state_can_keep tells whether a dump could have a state and bring it back. */
static inline bool
es_state_can_keep(const EsStoredState *state)
{
	return !state->too_large && !state->too_many &&
		(state->json == NULL || es_jsonsize_can_keep(state->json)) &&
		(state->text == NULL || VARSIZE_ANY_EXHDR(state->text) <= ES_MOST_TEXT) &&
		(state->sealed == NULL || VARSIZE_ANY_EXHDR(state->sealed) <= ES_MOST_TEXT);
}

/* Results are in the current memory context. */
extern Datum es_state_initial(const Jsonb *initial, Oid state_type, bool *isnull);
extern Datum es_state_populate(Datum base, bool *isnull, Oid row_type, const Jsonb *json);
extern Datum es_state_to_jsonb(Datum state, Oid state_type);
extern text *es_state_to_text(Datum state, Oid state_type);
extern Datum es_state_from_text(const text *stored, Oid state_type);

extern void es_state_describe_type(StringInfo out, Oid type);
extern char *es_state_layout(Oid type);

#endif							/* ES_FOLD_STATE_H */
