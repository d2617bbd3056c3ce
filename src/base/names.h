/*
 * names.h
 *		Names: what may be one, sets of them to filter by, and how messages show them.
 */
#ifndef ES_BASE_NAMES_H
#define ES_BASE_NAMES_H

#include "base/base.h"

#include "utils/array.h"
#include "utils/hsearch.h"

#include "base/event.h"

/* What names are of. */
typedef enum EsNameKind
{
	ES_NAME_CATEGORY,
	ES_NAME_TYPE,
	ES_NAME_STORED_TYPE,		/* in what an earlier release may have stored */
	ES_NAME_TAG,
	ES_NAME_PATH				/* to a field of events */
} EsNameKind;

/* A set of names, each of them once; one that is not set lets everything pass. */
typedef struct EsNames
{
	bool		set;
	int			count;
	text	  **names;			/* in the order in which they were given */
	int			room;			/* in names */
	struct nameindex_hash *index;	/* of names, if there are many; or NULL */
} EsNames;

/* The type of the event that deletes its stream; all that begin with $ are ours. */
#define ES_TYPE_STREAM_DELETED	"$stream-deleted"

#define ES_MAX_STREAM_NAME	512
#define ES_MAX_TYPE_NAME		255
#define ES_MAX_TAG_NAME		255
#define ES_MAX_PATH			1000
#define ES_MAX_LIST			1000000 /* names in one list, as it is given */

/* es_names_order orders strings by their bytes, one that another begins with first. */
static inline int
es_names_order(const char *a, int alen, const char *b, int blen)
{
	int			order = memcmp(a, b, Min(alen, blen));

	return order != 0 ? order : alen - blen;
}

/* What is a name. */
extern bool es_names_is_name(const text *name, int max);
extern void es_names_check_name(const text *name, const char *what, int max);
extern void es_names_check_stream(const text *name);
extern void es_names_check_type(const text *name);
extern void es_names_check_handled_type(const text *name);
extern bool es_names_is_deletion(const text *type);
extern bool es_names_is_reserved(const char *type, int len);
extern bool es_names_same(const text *a, const text *b);
extern uint32 es_names_hash(const text *name);
extern bool es_names_begins(const text *name, const text *prefix);
extern HTAB *es_names_map(const char *what, int size, Size entrysize, MemoryContext context);
extern int	es_names_category_length(const char *name, int len);
extern int32 es_names_category_key(const char *category, int len);
extern void es_names_check(const text *name, EsNameKind kind);
extern void es_names_check_prefix(const text *prefix);
extern void es_names_check_count(int64 count, const char *list);

/* Sets. */
extern bool es_names_add(EsNames *names, text *name);
extern EsNames es_names_of_one(text *name);
extern EsNames es_names_arg(FunctionCallInfo fcinfo, int argno, EsNameKind kind, const char *list);
extern EsNames es_names_of_column(Datum value, bool isnull);
extern ArrayType *es_names_array(const EsNames *names);
extern bool es_names_have(const EsNames *names, const char *name, int len);
extern bool es_names_pass(const EsNames *categories, const EsNames *types, const EsEvent *event);

/* Messages. */
extern char *es_names_list(const void *entries, int count, Size size);
extern char *es_names_show(const char *name);
extern char *es_names_cut(const char *text, int len, int most);
extern char *es_names_show_bytes(const char *name, int len);
extern char *es_names_show_text(const text *name);
extern char *es_names_show_event(const EsEvent *event);

#endif							/* ES_BASE_NAMES_H */
