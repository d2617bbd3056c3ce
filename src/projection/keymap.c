/*
 * keymap.c
 *		Which key an event is folded into: a path, or one for each type of event.
 *
 * The argument key is an SQL/JSON path, or a JSON object whose members are types of
 * events, or "*" for all others, with a path each, or null.  Events of a type with
 * null do not count, nor do those of a type that is not there if "*" is not.
 *
 * The object is read as text and not as jsonb, which would keep one of two members of
 * a name, and nobody would know which.
 */
#include "projection/keymap.h"

#include "common/jsonapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/jsonfuncs.h"
#include "utils/memutils.h"

/* An object that is being read. */
typedef struct KeyReader
{
	EsKeyMap   *map;
	JsonLexContext *lexer;
	int			room;			/* in map->types */
	const char *member;			/* whose value comes next */
	bool		has_others;
} KeyReader;

/* ---- reading the object ---- */

/* Adds to the context of errors which member's path they are about. */
static void
describe_key_member(void *arg)
{
	errcontext("key of event type \"%s\"", es_names_show((const char *) arg));
}

/* Compiles the path of a member. */
static const EsValue *
compile_member_path(const char *member, const char *path)
{
	ErrorContextCallback callback;
	const EsValue *value;

	callback.callback = describe_key_member;
	callback.arg = unconstify(char *, member);
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	value = es_value_compile_key(cstring_to_text(path));
	error_context_stack = callback.previous;
	return value;
}

/* Adds a type, with its path. */
static void
add_type_key(KeyReader *reader, const EsValue *path)
{
	EsKeyMap   *map = reader->map;
	text	   *type = cstring_to_text(reader->member);

	es_names_check(type, ES_NAME_STORED_TYPE);
	es_names_check_count(map->count + 1, "key");
	if (map->count == reader->room)
	{
		reader->room = Max(2 * reader->room, 8);
		map->types = map->types == NULL ? palloc(sizeof(EsTypeKey) * reader->room) :
			repalloc(map->types, sizeof(EsTypeKey) * reader->room);
	}
	map->types[map->count].type = type;
	map->types[map->count++].path = path;
}

/* Raises 22023: a member is there twice. */
ES_NORETURN static void
report_key_twice(const char *member)
{
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("key has event type \"%s\" more than once", es_names_show(member)));
}

/* Raises 22023: a member is neither a path nor null. */
ES_NORETURN static void
report_no_path(const char *member)
{
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("key of event type \"%s\" must be an SQL/JSON path, as a string, or null", es_names_show(member)));
}

/* A member's name. */
static ES_JSON_ACTION
take_key_member(void *state, char *name, bool isnull)
{
	KeyReader  *reader = state;

	CHECK_FOR_INTERRUPTS();
	reader->member = name;
	ES_JSON_GO_ON;
}

/* A member's value, or the whole, if that is no object. */
static ES_JSON_ACTION
take_key_path(void *state, char *token, JsonTokenType kind)
{
	KeyReader  *reader = state;
	const EsValue *path;

	if (kind != JSON_TOKEN_STRING && kind != JSON_TOKEN_NULL)
		report_no_path(reader->member);
	path = kind == JSON_TOKEN_NULL ? NULL : compile_member_path(reader->member, token);
	if (strcmp(reader->member, "*") != 0)
		add_type_key(reader, path);
	else
	{
		if (reader->has_others)
			report_key_twice(reader->member);
		reader->has_others = true;
		reader->map->others = path;
	}
	ES_JSON_GO_ON;
}

/* An array, or an object other than the whole. */
static ES_JSON_ACTION
refuse_key_nesting(void *state)
{
	KeyReader  *reader = state;

	if (reader->lexer->lex_level > 0)
		report_no_path(reader->member);
	ES_JSON_GO_ON;
}

/* ---- compiling ---- */

/* Orders types by their bytes. */
static int
compare_type_keys(const void *a, const void *b)
{
	const text *x = ((const EsTypeKey *) a)->type;
	const text *y = ((const EsTypeKey *) b)->type;

	return es_names_order(VARDATA_ANY(x), VARSIZE_ANY_EXHDR(x), VARDATA_ANY(y), VARSIZE_ANY_EXHDR(y));
}

/* Sorts the types, and finds which of them count. */
static void
sort_type_keys(EsKeyMap *map)
{
	if (map->count > 1)
		qsort(map->types, map->count, sizeof(EsTypeKey), compare_type_keys);
	map->wanted.set = map->others == NULL;
	for (int i = 0; i < map->count; i++)
	{
		if (i > 0 && es_names_same(map->types[i - 1].type, map->types[i].type))
			report_key_twice(text_to_cstring(map->types[i].type));
		if (map->types[i].path && map->wanted.set)
			(void) es_names_add(&map->wanted, map->types[i].type);
	}
}

/* Compiles an object of paths. */
static void
compile_key_object(EsKeyMap *map, text *key)
{
	KeyReader	reader = {.map = map,.lexer = es_json_lexer(key)};
	JsonSemAction actions = {.semstate = &reader,.object_start = refuse_key_nesting,.array_start = refuse_key_nesting,
	.object_field_start = take_key_member,.scalar = take_key_path};
	JsonParseErrorType result = pg_parse_json(reader.lexer, &actions);

	if (result != JSON_SUCCESS)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("key must be an SQL/JSON path, or a JSON object of such paths by event type"),
				errdetail_internal("%s", json_errdetail(result, reader.lexer)));
	sort_type_keys(map);
	if (map->wanted.set && map->wanted.count == 0)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("key must have a path for at least one event type, or for \"*\""));
}

/* Tells whether the argument is an object, to be told by how it begins. */
static bool
is_key_object(const text *key)
{
	const char *bytes = VARDATA_ANY(key);
	int			len = VARSIZE_ANY_EXHDR(key);

	while (len > 0 && (*bytes == ' ' || *bytes == '\t' || *bytes == '\n' || *bytes == '\r'))
		bytes++, len--;
	return len > 0 && *bytes == '{';
}

/*
 * es_keymap_compile compiles the argument key, in the current memory context; 22023
 * if it is malformed.
 */
EsKeyMap *
es_keymap_compile(text *key)
{
	EsKeyMap   *map = palloc0(sizeof(EsKeyMap));

	if (is_key_object(key))
		compile_key_object(map, key);
	else
		map->others = es_value_compile_key(key);
	return map;
}

/* es_keymap_check raises 22023 for a type that no event can have; a stored key may name one. */
void
es_keymap_check(const EsKeyMap *map)
{
	for (int i = 0; i < map->count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		es_names_check(map->types[i].type, ES_NAME_TYPE);
	}
}

/* es_keymap_path gives the path for a type of event; NULL if such events do not count. */
const EsValue *
es_keymap_path(const EsKeyMap *map, Datum type)
{
	EsTypeKey	key = {0};
	const EsTypeKey *found;

	if (map->count == 0)
		return map->others;
	key.type = DatumGetTextPP(type);
	found = bsearch(&key, map->types, map->count, sizeof(EsTypeKey), compare_type_keys);
	return found ? found->path : map->others;
}

/* es_keymap_find gives the key of an event; NULL if it has none, VE009 if that is no key. */
text *
es_keymap_find(const EsKeyMap *map, const EsEvent *event)
{
	const EsValue *path = es_keymap_path(map, event->type);

	return path ? es_value_key(path, event) : NULL;
}
