/*
 * checks.h
 *		Whether events fit into the log.
 */
#ifndef ES_LIFECYCLE_CHECKS_H
#define ES_LIFECYCLE_CHECKS_H

#include "base/base.h"

#include "utils/relcache.h"

#include "lifecycle/archived.h"

ES_NORETURN extern void es_checks_report(Relation rel, int64 segment, const char *detail);
extern void es_checks_run(Relation rel, const EsArchived *known);

#endif							/* ES_LIFECYCLE_CHECKS_H */
