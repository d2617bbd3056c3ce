/*
 * place.h
 *		Where in a JSON document something is, for errors.
 */
#ifndef ES_JSON_PLACE_H
#define ES_JSON_PLACE_H

#include "base/base.h"

/* A place: in a place of its own, and so on up to the document. */
typedef struct EsPlace
{
	const struct EsPlace *within;	/* NULL: this is the document */
	const char *key;			/* NULL: it is an element */
	int			len;
	int			number;
} EsPlace;

extern int	es_place_errdetail(const EsPlace *place);

#endif							/* ES_JSON_PLACE_H */
