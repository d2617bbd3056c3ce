/*
 * foldnode.h
 *		The plan node of es_replay_category in FROM.
 */
#ifndef ES_FOLD_FOLDNODE_H
#define ES_FOLD_FOLDNODE_H

#include "base/base.h"

extern void es_foldnode_init(void);

#endif							/* ES_FOLD_FOLDNODE_H */
