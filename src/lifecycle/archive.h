/*
 * archive.h
 *		Segments that leave the log, and come back.
 */
#ifndef ES_LIFECYCLE_ARCHIVE_H
#define ES_LIFECYCLE_ARCHIVE_H

#include "base/base.h"

extern PGDLLEXPORT void es_archive_main(Datum main_arg);

#endif							/* ES_LIFECYCLE_ARCHIVE_H */
