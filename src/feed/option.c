/*
 * option.c
 *		The options of the output plugin.
 *
 * Options come as a list of names and texts, from START_REPLICATION or from
 * pg_logical_slot_get_changes.  One table says which there are, of which kind,
 * and where their values go.  Whatever is wrong is 22023 and is raised before
 * anything is decoded.
 *
 * In a walsender options are read outside a transaction: nothing here may
 * look into a catalog.
 */
#include "feed/option.h"

#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

#include "base/names.h"
#include "base/positions.h"
#include "json/match.h"

typedef enum EsOptionKind
{
	OPTION_BOOL,
	OPTION_FORMAT,
	OPTION_CATEGORIES,
	OPTION_ORIGIN,
	OPTION_POSITION,
	OPTION_POSITIONS,
	OPTION_PREFIX,
	OPTION_QUERY,
	OPTION_TYPES
} EsOptionKind;

typedef struct EsKnownOption
{
	const char *name;
	EsOptionKind kind;
	size_t		offset;			/* in EsFeedOptions */
} EsKnownOption;

/* The options there are. */
static const EsKnownOption known_options[] = {
	{"after_position", OPTION_POSITION, offsetof(EsFeedOptions, filter.after_position)},
	{"categories", OPTION_CATEGORIES, offsetof(EsFeedOptions, filter.categories)},
	{"format", OPTION_FORMAT, offsetof(EsFeedOptions, format)},
	{"include_transaction", OPTION_BOOL, offsetof(EsFeedOptions, include_transaction)},
	{"origin", OPTION_ORIGIN, offsetof(EsFeedOptions, origin)},
	{"query", OPTION_QUERY, offsetof(EsFeedOptions, filter.query)},
	{"skip_positions", OPTION_POSITIONS, offsetof(EsFeedOptions, filter.skip_positions)},
	{"stream_prefix", OPTION_PREFIX, offsetof(EsFeedOptions, filter.stream_prefix)},
	{"streaming", OPTION_BOOL, offsetof(EsFeedOptions, streaming)},
	{"two_phase", OPTION_BOOL, offsetof(EsFeedOptions, two_phase)},
	{"types", OPTION_TYPES, offsetof(EsFeedOptions, filter.types)},
};

/* Raises 22023 for a value that an option cannot have. */
static void
refuse_option_value(const char *option, const char *value, const char *detail)
{
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("invalid value for option \"%s\": \"%s\"", option, es_names_show(value)),
			errdetail_internal("%s", detail));
}

/* Puts a name into a set; what is no name of the kind is 22023. */
static void
add_option_name(EsNames *names, EsNameKind kind, const char *data, int len)
{
	text	   *name = cstring_to_text_with_len(data, len);

	es_names_check(name, kind);
	if (!es_names_add(names, name))
		pfree(name);
}

/* Parses text as jsonb; what is not JSON is 22023. */
static Jsonb *
parse_option_json(const char *option, const char *value)
{
	MemoryContext caller = CurrentMemoryContext;
	Jsonb	   *volatile json = NULL;

	PG_TRY();
	{
		json = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(value)));
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		if (ERRCODE_TO_CATEGORY(error->sqlerrcode) != ERRCODE_DATA_EXCEPTION)
			PG_RE_THROW();
		FlushErrorState();
		refuse_option_value(option, value, psprintf("It cannot be read as JSON: %s.", error->message));
	}
	PG_END_TRY();
	return json;
}

/* Reads a JSON array of strings into a set. */
static void
read_json_names(EsNames *names, EsNameKind kind, const char *option, const char *value)
{
	Jsonb	   *json = parse_option_json(option, value);

	if (!JB_ROOT_IS_ARRAY(json) || JB_ROOT_IS_SCALAR(json))
		refuse_option_value(option, value, "It must be a JSON array of strings.");
	es_names_check_count(JB_ROOT_COUNT(json), option);
	for (uint32 i = 0; i < JB_ROOT_COUNT(json); i++)
	{
		JsonbValue *element = getIthJsonbValueFromContainer(&json->root, i);

		CHECK_FOR_INTERRUPTS();
		if (element->type != jbvString)
			refuse_option_value(option, value, "It must be a JSON array of strings.");
		add_option_name(names, kind, element->val.string.val, element->val.string.len);
	}
}

/* Reads a list with commas between the names into a set; blanks around a name do not count. */
static void
read_comma_names(EsNames *names, EsNameKind kind, const char *option, const char *value)
{
	const char *start = pstrdup(value);

	for (int64 count = 1;; count++)
	{
		const char *comma = strchr(start, ',');
		const char *next = comma ? comma : start + strlen(start);
		const char *end = next;

		while (start < end && *start == ' ')
			start++;
		while (end > start && end[-1] == ' ')
			end--;
		CHECK_FOR_INTERRUPTS();
		es_names_check_count(count, option);
		if (start == end)
			refuse_option_value(option, value, "A name in the list is empty.");
		add_option_name(names, kind, start, end - start);
		if (comma == NULL)
			return;
		start = comma + 1;
	}
}

/* Reads a list of names, comma-separated or as a JSON array. */
static EsNames
read_names(EsNameKind kind, const char *option, const char *value)
{
	EsNames		names = {.set = true};

	if (value[strspn(value, " \t\r\n")] == '[')
		read_json_names(&names, kind, option, value);
	else
		read_comma_names(&names, kind, option, value);
	return names;
}

/*
 * es_feedoption_query reads a query from its JSON, in the current memory context; 22023
 * for what is none, and for one that asks for a last event.
 */
const EsQuery *
es_feedoption_query(const char *value)
{
	const EsQuery *query = es_match_query_from_json(parse_option_json("query", value));

	es_match_query_check_followed(query);
	return query;
}

/* es_feedoption_stored_query is the same for a feed's own query, as it is stored. */
const EsQuery *
es_feedoption_stored_query(const char *value)
{
	const EsQuery *query = es_match_query_of_stored(parse_option_json("query", value));

	es_match_query_check_followed(query);
	return query;
}

/* Reads a position, 0 or more. */
static int64
read_position(const char *option, const char *value)
{
	char	   *end;
	int64		position;

	errno = 0;
	position = strtoi64(value, &end, 10);
	if (errno != 0 || end == value || *end != '\0' || position < 0)
		refuse_option_value(option, value, "It must be a position, 0 or more.");
	return position;
}

/* Reads a list of positions with commas between them. */
static void
read_positions(EsPositions *list, const char *option, const char *value)
{
	char	   *next = pstrdup(value);

	list->positions = palloc(sizeof(int64) * (strlen(value) / 2 + 1));
	while (next != NULL)
	{
		char	   *item = next + strspn(next, " ");
		char	   *end;

		next = strchr(item, ',');
		end = next ? next++ : item + strlen(item);
		while (end > item && end[-1] == ' ')
			end--;
		*end = '\0';
		list->positions[list->count++] = read_position(option, item);
	}
	es_positions_sort(list);
}

/* Reads what streams' names begin with. */
static text *
read_prefix(const char *value)
{
	text	   *prefix = cstring_to_text(value);

	es_names_check_prefix(prefix);
	return prefix;
}

/* Reads a truth value. */
static bool
read_bool(const char *option, const char *value)
{
	bool		result = false;

	if (!parse_bool(value, &result))
		refuse_option_value(option, value, "It must be a Boolean, such as \"on\" or \"off\".");
	return result;
}

/* es_feedoption_format reads the name of a format; an unknown one is 22023. */
EsFeedFormat
es_feedoption_format(const char *value)
{
	if (strcmp(value, "json") == 0)
		return ES_FEED_JSON;
	if (strcmp(value, "cloudevents") == 0)
		return ES_FEED_CLOUDEVENTS;
	refuse_option_value("format", value, "It must be \"json\" or \"cloudevents\".");
	return ES_FEED_JSON;		/* not reached */
}

/*
 * es_feedoption_agree gives the format that a consumer gets of a feed that has one:
 * CloudEvents as soon as either of them says so.  A consumer that insists on JSON where
 * the feed has CloudEvents is 22023.
 */
EsFeedFormat
es_feedoption_agree(EsFeedFormat kept, EsFeedFormat asked)
{
	if (kept == ES_FEED_CLOUDEVENTS && asked == ES_FEED_JSON)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("the feed's format is \"cloudevents\", not \"json\""),
				errhint("Leave the option \"format\" out, or change the feed with es_alter_feed."));
	return Max(Max(kept, asked), ES_FEED_JSON);
}

/* Reads the name of an origin, as CREATE SUBSCRIPTION takes it. */
static EsFeedOrigin
read_origin(const char *option, const char *value)
{
	if (pg_strcasecmp(value, "any") != 0 && pg_strcasecmp(value, "none") != 0)
		refuse_option_value(option, value, "It must be \"any\" or \"none\".");
	return pg_strcasecmp(value, "none") == 0 ? ES_FEED_NONE : ES_FEED_ANY;
}

/* Stores one option's value. */
static void
read_option_value(EsFeedOptions *options, int known, const char *value)
{
	const char *name = known_options[known].name;
	void	   *target = (char *) options + known_options[known].offset;

	switch (known_options[known].kind)
	{
		case OPTION_BOOL:
			*(bool *) target = read_bool(name, value);
			break;
		case OPTION_FORMAT:
			*(EsFeedFormat *) target = es_feedoption_format(value);
			break;
		case OPTION_CATEGORIES:
			*(EsNames *) target = read_names(ES_NAME_CATEGORY, name, value);
			break;
		case OPTION_TYPES:
			*(EsNames *) target = read_names(ES_NAME_TYPE, name, value);
			break;
		case OPTION_ORIGIN:
			*(EsFeedOrigin *) target = read_origin(name, value);
			break;
		case OPTION_POSITION:
			*(int64 *) target = read_position(name, value);
			break;
		case OPTION_POSITIONS:
			read_positions(target, name, value);
			break;
		case OPTION_PREFIX:
			*(text **) target = read_prefix(value);
			break;
		case OPTION_QUERY:
			*(const EsQuery **) target = es_feedoption_query(value);
			break;
	}
}

/* Finds an option in the table; an unknown one is 22023. */
static int
find_feed_option(const char *name)
{
	for (int i = 0; i < lengthof(known_options); i++)
		if (strcmp(name, known_options[i].name) == 0)
			return i;
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("unrecognized option \"%s\"", es_names_show(name)),
			errhint("The options are %s.",
					es_names_list(known_options, lengthof(known_options), sizeof(EsKnownOption))));
	return -1;					/* not reached */
}

/* Raises 22023 for frames of unfinished transactions that nobody could tell from final ones. */
static void
check_frame_options(const EsFeedOptions *options)
{
	if ((options->streaming || options->two_phase) && !options->include_transaction)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("option \"%s\" requires option \"include_transaction\"",
					   options->streaming ? "streaming" : "two_phase"),
				errdetail("Events are sent before their transaction is committed, and only "
						  "the frames around them tell what became of it."));
}

/*
 * es_feedoption_read reads a list of DefElem into options that are allocated
 * in the current memory context.  A Boolean option without a value is on.
 */
EsFeedOptions *
es_feedoption_read(List *options)
{
	EsFeedOptions *result = palloc0(sizeof(EsFeedOptions));
	uint32		seen = 0;
	ListCell   *cell;

	foreach(cell, options)
	{
		DefElem    *option = lfirst_node(DefElem, cell);
		int			known = find_feed_option(option->defname);
		const char *value = option->arg ? strVal(option->arg) : NULL;

		if (seen & (1 << known))
			ereport(ERROR,
					errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("option \"%s\" is specified more than once", option->defname));
		seen |= 1 << known;
		if (value == NULL && known_options[known].kind == OPTION_BOOL)
			value = "on";
		if (value == NULL)
			ereport(ERROR,
					errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("option \"%s\" requires a value", option->defname));
		read_option_value(result, known, value);
	}
	check_frame_options(result);
	return result;
}
