/*
 * secrecy.h
 *		How states of protected data are kept.
 */
#ifndef ES_FOLD_SECRECY_H
#define ES_FOLD_SECRECY_H

#include "base/base.h"

#include "base/names.h"
#include "fold/reducer.h"
#include "fold/state.h"
#include "json/taint.h"
#include "secret/bundle.h"

typedef enum EsSecrecy
{
	ES_SECRECY_NONE,			/* no event has a protected field, or they are
								 * given plain */
	ES_SECRECY_COPIED,			/* events are folded as they are stored */
	ES_SECRECY_SEALED			/* they are folded as readers see them */
} EsSecrecy;

extern EsSecrecy es_secrecy_of(const EsReducer *reducer, const EsNames *categories);
ES_NORETURN extern void es_secrecy_report_subjects(const char *reducer);
extern void es_secrecy_seal(EsStoredState *stored, const Jsonb *json, const EsKeyring *keys, const EsNames *categories);
extern bool es_secrecy_open(const text *sealed, const EsNames *categories, EsKeyring *keys, EsStoredState *opened);
extern Datum es_secrecy_read(const Jsonb *state, const text *sealed, const EsNames *categories, bool *isnull);
extern bool es_secrecy_follow(const EsReducer *reducer, const EsNames *categories, EsLeaves *state);

#endif							/* ES_FOLD_SECRECY_H */
