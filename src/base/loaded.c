/*
 * loaded.c
 *		Which file the library was loaded from.
 *
 * Who installs another version puts another file in its place, and what runs goes on with the one
 * that it has loaded: the server where the library is preloaded, else each session.  The file's
 * identity is noted as the library is loaded; a server that forks hands it on.
 */
#include "base/loaded.h"

#include <dlfcn.h>
#include <sys/stat.h>

static struct stat loaded;
static bool known = false;

/* Looks up the library's file; false if that cannot be told. */
static bool
find_library_file(struct stat *file)
{
	Dl_info		library;

	return dladdr((void *) &known, &library) != 0 && library.dli_fname != NULL && stat(library.dli_fname, file) == 0;
}

/* es_loaded_init notes which file it is; called once, from _PG_init. */
void
es_loaded_init(void)
{
	known = find_library_file(&loaded);
}

/* es_loaded_is_replaced tells whether there is another file by now. */
bool
es_loaded_is_replaced(void)
{
	struct stat now;

	if (!known || !find_library_file(&now))
		return false;
	return now.st_dev != loaded.st_dev || now.st_ino != loaded.st_ino || now.st_size != loaded.st_size ||
		now.st_mtime != loaded.st_mtime;
}
