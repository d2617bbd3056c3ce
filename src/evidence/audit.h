/*
 * audit.h
 *		Seals, and the tree, held against each other.
 */
#ifndef ES_EVIDENCE_AUDIT_H
#define ES_EVIDENCE_AUDIT_H

#include "base/base.h"

#include "utils/snapshot.h"

#include "evidence/digest.h"
#include "evidence/inspect.h"

/* What is looked at. */
typedef struct EsAudit
{
	int64		from;			/* seals of these positions */
	int64		to;
	int64		first_tile;		/* what is above these tiles of leaves */
	int64		last_tile;
	int64		size;			/* leaves that there are */
	Snapshot	snapshot;
	EsDigester *digester;
	EsFlawTake	take;
	void	   *arg;
} EsAudit;

extern void es_audit_tiles(const EsAudit *audit);
extern void es_audit_seals(const EsAudit *audit);

#endif							/* ES_EVIDENCE_AUDIT_H */
