/*
 * seal.h
 *		Seals: the log so far, closed under a root.
 */
#ifndef ES_EVIDENCE_SEAL_H
#define ES_EVIDENCE_SEAL_H

#include "base/base.h"

#include "datatype/timestamp.h"
#include "utils/snapshot.h"

#include "evidence/digest.h"
#include "table/columns.h"
#include "table/rows.h"

/* A row of eventstore.seals. */
typedef struct EsSeal
{
	int64		position;		/* up to which all is sealed */
	int64		size;			/* leaves up to there */
	TimestampTz sealed_at;
	EsDigest	root;
	EsDigest	chain;			/* over this seal, and all before */
	bool		damaged;		/* root or chain cannot be read */
} EsSeal;

extern const EsShape es_seal_shape;

extern void es_seal_begin_list(EsRows *rows, int64 after, int64 upto, Snapshot snapshot);
extern void es_seal_take(const EsRows *rows, EsSeal *seal);
extern bool es_seal_find(int64 position, Snapshot snapshot, EsSeal *seal);
extern bool es_seal_find_last(int64 upto, Snapshot snapshot, EsSeal *seal);
extern void es_seal_compute_chain(EsDigester *digester, const EsSeal *seal, const EsSeal *before, EsDigest *chain);
extern bool es_seal_minds_removal(void);
extern bool es_seal_lock(bool wait);
extern void es_seal_write(const EsSeal *seal);

#endif							/* ES_EVIDENCE_SEAL_H */
