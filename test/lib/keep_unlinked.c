/*
 * keep_unlinked.c
 *		To be preloaded into a server (LD_PRELOAD): temporary files stay when they go.
 *
 * A temporary file is gone with the statement that needs it, before a test can look.  Here each
 * gets another name first, in the folder that KEEP_UNLINKED names, on the same file system.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Tells whether a file is one of those that the server puts there for a while. */
static int
is_temporary(const char *path)
{
	return strstr(path, "pgsql_tmp") != NULL || strstr(path, ".spill") != NULL;
}

/* Gives a file another name, made of its path. */
static void
keep(const char *path, const char *folder)
{
	static unsigned long number = 0;
	char		kept[4096];
	int			len = snprintf(kept, sizeof(kept), "%s/%ld.%lu.", folder, (long) getpid(), number++);

	for (const char *c = path; *c && len < (int) sizeof(kept) - 1; c++)
		kept[len++] = *c == '/' ? '+' : *c;
	kept[len] = '\0';
	if (link(path, kept) != 0 && errno != ENOENT)
	{
		perror(kept);
		abort();
	}
}

int
unlink(const char *path)
{
	static int	(*real) (const char *) = NULL;
	const char *folder = getenv("KEEP_UNLINKED");

	if (real == NULL)
		real = (int (*) (const char *)) dlsym(RTLD_NEXT, "unlink");
	if (folder != NULL && is_temporary(path))
		keep(path, folder);
	return real(path);
}
