/*
 * feed.h
 *		Feeds: replication slots of our output plugin.
 *
 * The functions are called from SQL only, see feed.sql.
 */
#ifndef ES_FEED_FEED_H
#define ES_FEED_FEED_H

#include "base/base.h"

#endif							/* ES_FEED_FEED_H */
