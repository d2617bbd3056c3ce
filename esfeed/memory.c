/*
 * memory.c
 *		Memory, and texts in it.
 */
#include "memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report.h"

/* get_memory allocates. */
void *
get_memory(size_t size)
{
	return more_memory(NULL, size);
}

/* get_zeroed allocates, all zero. */
void *
get_zeroed(size_t size)
{
	return memset(get_memory(size), 0, size);
}

/* more_memory changes the size of what was allocated. */
void *
more_memory(void *old, size_t size)
{
	void	   *result = realloc(old, size > 0 ? size : 1);

	if (result == NULL)
		report_failure(EXIT_SINK, "out of memory: could not get %zu bytes", size);
	return result;
}

/*
 * make_room gives an array of *size elements, of which count are used, room for
 * one more; NULL is one of none.
 */
void *
make_room(void *array, size_t count, size_t *size, size_t element_size)
{
	if (count < *size)
		return array;
	*size = *size > 0 ? *size * 2 : 1024;
	return more_memory(array, *size * element_size);
}

/* copy_text copies a string. */
char *
copy_text(const char *text)
{
	size_t		size = strlen(text) + 1;

	return memcpy(get_memory(size), text, size);
}

/* make_text prints into a new string. */
char *
make_text(const char *format,...)
{
	va_list		args;
	int			length;
	char	   *result;

	va_start(args, format);
	length = vsnprintf(NULL, 0, format, args);
	va_end(args);
	result = get_memory((size_t) length + 1);
	va_start(args, format);
	vsnprintf(result, (size_t) length + 1, format, args);
	va_end(args);
	return result;
}
