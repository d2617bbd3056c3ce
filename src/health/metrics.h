/*
 * metrics.h
 *		How the store is doing, in numbers.
 */
#ifndef ES_HEALTH_METRICS_H
#define ES_HEALTH_METRICS_H

#include "base/base.h"

#include "nodes/execnodes.h"
#include "utils/jsonb.h"

/* A row of es_metrics() on its way. */
typedef struct EsMetric
{
	const char *name;			/* without the prefix */
	const char *kind;
	const char *help;
	double		value;
} EsMetric;

extern void es_metrics_put(ReturnSetInfo *result, const EsMetric *metric, Datum labels);
extern Datum es_metrics_label(const char *name, const char *value);

#endif							/* ES_HEALTH_METRICS_H */
