/*
 * memory.h
 *		Memory, and texts in it.
 *
 * When there is none the program ends.  What is given is the caller's to free.
 */
#ifndef MEMORY_H
#define MEMORY_H

#include <stddef.h>

extern void *get_memory(size_t size);
extern void *get_zeroed(size_t size);
extern void *more_memory(void *old, size_t size);
extern void *make_room(void *array, size_t count, size_t *size, size_t element_size);
extern char *copy_text(const char *text);
extern char *make_text(const char *format,...) __attribute__((format(printf, 1, 2)));

#endif							/* MEMORY_H */
