/*
 * readnode.h
 *		The plan node of reads in FROM.
 */
#ifndef ES_READ_READNODE_H
#define ES_READ_READNODE_H

#include "base/base.h"

extern void es_readnode_init(void);

#endif							/* ES_READ_READNODE_H */
