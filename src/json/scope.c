/*
 * scope.c
 *		What a template's paths are about: an event, and a state before it.
 *
 * Members of the data that paths go to are looked up together, when the first is asked for, if
 * whoever evaluates them has said which they are.
 */
#include "json/scope.h"

#include "datatype/timestamp.h"
#include "miscadmin.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"
#include "utils/uuid.h"

#include "json/text.h"

static const char *const root_names[] = {
	"data", "type", "state", "stream", "version", "event_id", "metadata", "position", "recorded_at"
};
static EsKey root_keys[ES_ROOT_COUNT];

/* Makes the keys of the roots; called once, from _PG_init. */
void
es_scope_init(void)
{
	StaticAssertStmt(lengthof(root_names) == ES_ROOT_COUNT, "one name for each root");
	for (int i = 0; i < ES_ROOT_COUNT; i++)
		root_keys[i] = es_node_key(root_names[i], strlen(root_names[i]));
}

/* es_scope_key gives the key that a root has in the object that paths are about. */
const EsKey *
es_scope_key(EsRoot root)
{
	return &root_keys[root];
}

/* es_scope_name gives that key as a string. */
const char *
es_scope_name(EsRoot root)
{
	return root_names[root];
}

/* es_scope_find finds a root by its name; ES_ROOT_COUNT if there is none. */
EsRoot
es_scope_find(const char *name, int len)
{
	EsRoot		root = 0;

	while (root < ES_ROOT_COUNT &&
		   (root_keys[root].len != len || memcmp(root_keys[root].bytes, name, len) != 0))
		root++;
	return root;
}

/* es_scope_begin makes the scope of an event and a state. */
void
es_scope_begin(EsScope *scope, const EsEvent *event, EsNode *state)
{
	scope->event = event;
	scope->state = state;
	scope->known = 0;
	scope->wanted = NULL;
	scope->sought = ES_SOUGHT_NOT_YET;
}

/* Makes a view of a text. */
static EsNode
view_text(Datum stored)
{
	text	   *value = DatumGetTextPP(stored);

	return es_node_view_string(VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value));
}

/* Makes a view of a string that is a C string. */
static EsNode
view_cstring(const char *string)
{
	return es_node_view_string(string, strlen(string));
}

/* Gives a time. */
static EsNode
view_time(TimestampTz time)
{
	char	   *buffer = palloc(MAXDATELEN + 1);

	return es_node_view_string(buffer, es_jsontext_time(buffer, time));
}

/* Makes one of the members that tell of the event. */
static EsNode
make_event_member(const EsEvent *event, EsRoot root)
{
	switch (root)
	{
		case ES_ROOT_DATA:
			return es_node_view(DatumGetJsonbP(event->data));
		case ES_ROOT_METADATA:
			return es_node_view(DatumGetJsonbP(event->metadata));
		case ES_ROOT_TYPE:
			return view_text(event->type);
		case ES_ROOT_STREAM:
			return view_text(event->stream);
		case ES_ROOT_VERSION:
			return es_node_view_number(int64_to_numeric(event->version));
		case ES_ROOT_POSITION:
			return es_node_view_number(int64_to_numeric(event->position));
		case ES_ROOT_EVENT_ID:
			return view_cstring(DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(&event->event_id))));
		case ES_ROOT_RECORDED_AT:
			return view_time(event->recorded_at);
		default:
			elog(ERROR, "no such member of an event: %d", root);
	}
}

/* es_scope_make makes a member that tells of the event. */
const EsNode *
es_scope_make(EsScope *scope, EsRoot root)
{
	scope->members[root] = make_event_member(scope->event, root);
	scope->known |= 1U << root;
	return &scope->members[root];
}

/*
 * es_scope_seek looks up all members of the data that are wanted, in one walk; false if it is none
 * for that.
 */
bool
es_scope_seek(EsScope *scope)
{
	const EsNode *data = es_scope_member(scope, ES_ROOT_DATA);
	bool		found = scope->wanted != NULL && es_node_is_packed_object(data) &&
	es_node_find_sorted(data, scope->wanted->keys, scope->wanted->count, scope->found);

	scope->sought = found ? ES_SOUGHT_FOUND : ES_SOUGHT_IN_VAIN;
	return found;
}
