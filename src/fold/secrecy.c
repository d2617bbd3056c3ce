/*
 * secrecy.c
 *		How states of protected data are kept.
 *
 * A protected field is stored encrypted, as a string (secret/field.c).  States must not be
 * kept in another form, nor outlive the key of their subject.  There are two ways.
 *
 * Copied: a reducer that does nothing to protected fields but copy them, as json/taint.c
 * finds out, folds events as they are stored.  Its states have the same strings, and who
 * reads them gets them opened, as of events.  A field of a shredded subject is null there
 * at once, and nothing has to be noted or done.
 *
 * Sealed: all other reducers, those that call functions among them, are given plain data.
 * The fold notes the keys of the fields that have gone into the state, and what is kept of
 * it is encrypted as a whole under all of them (secret/bundle.c).  Once one of them is
 * shredded that is lost: a snapshot is passed over, a projection's state is NULL until the
 * projection is rebuilt, which es_shred() begins (projection/privacy.c).
 *
 * Which way a fold goes depends on the categories that its events are of, and on the
 * protections there are or have been.  Both kinds of states may be met in either way: the
 * reducer or the protections may have been others when a state was left.
 *
 * States that were made before their data were protected are plain, as those events are.
 */
#include "fold/secrecy.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

#include "json/node.h"
#include "json/pack.h"
#include "json/size.h"
#include "secret/field.h"
#include "secret/coverage.h"
#include "type/upcast.h"

/* Tells whether an upcaster may change events that a handler gets. */
static bool
upcaster_is_for_handler(const EsReducer *reducer, const EsHandler *handler, const EsUpcaster *upcaster)
{
	return es_reducer_handler(reducer, upcaster->type, upcaster->type_len) == handler;
}

/*
 * Follows protected fields through the upcasters of what a handler gets; false if one does
 * more than copy them.  Upcasters are in order of type and version.
 */
static bool
follow_upcasters(const EsReducer *reducer, const EsHandler *handler, EsLeaves *data)
{
	for (int i = 0; i < reducer->upcasters->count; i++)
	{
		const EsUpcaster *upcaster = &reducer->upcasters->items[i];
		EsLeaves	before = {0};

		CHECK_FOR_INTERRUPTS();
		if (!upcaster_is_for_handler(reducer, handler, upcaster))
			continue;
		if (upcaster->ops == NULL || !es_taint_add_all(&before, data) ||
			!es_taint_ops(upcaster->ops, &before, data))
			return false;
	}
	return true;
}

/* Follows protected fields through a handler; false if it does more than copy them. */
static bool
follow_handler(const EsReducer *reducer, const EsHandler *handler, const EsLeaves *stored, EsLeaves *state)
{
	EsLeaves	data = {0};

	if (handler->kind == ES_HANDLER_COUNT)
		return true;
	if (!es_taint_add_all(&data, stored) || !follow_upcasters(reducer, handler, &data))
		return false;
	switch (handler->kind)
	{
		case ES_HANDLER_FUNCTION:
			return data.count == 0 && state->count == 0;
		case ES_HANDLER_OPS:
			return es_taint_ops(handler->ops, &data, state);
		case ES_HANDLER_LAST:
			return es_taint_add_below(state, "data", &data);
		default:
			return true;
	}
}

/*
 * es_secrecy_follow finds out where states by a reducer have protected fields of the
 * events of some categories; false if the reducer does more than copy them.
 */
bool
es_secrecy_follow(const EsReducer *reducer, const EsNames *categories, EsLeaves *state)
{
	EsLeaves	stored = {0};
	int			before;

	if (!es_coverage_leaves(categories, &stored))
		return false;
	do
	{
		before = state->count;
		for (int i = 0; i < reducer->nhandlers; i++)
			if (!follow_handler(reducer, &reducer->handlers[i], &stored, state))
				return false;
	} while (state->count > before);
	return true;
}

/* es_secrecy_of tells how states by a reducer, of events of some categories, are kept. */
EsSecrecy
es_secrecy_of(const EsReducer *reducer, const EsNames *categories)
{
	MemoryContext context;
	MemoryContext old;
	EsLeaves	state = {0};
	bool		copied;

	if (!es_coverage_any(categories))
		return ES_SECRECY_NONE;
	context = AllocSetContextCreate(CurrentMemoryContext, "eventstore secrecy", ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(context);
	copied = es_secrecy_follow(reducer, categories, &state);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	return copied ? ES_SECRECY_COPIED : ES_SECRECY_SEALED;
}

/* ---- states as a whole ---- */

/* The scope of states of events of some categories: there are one, or all. */
static const char *
scope_of(const EsNames *categories)
{
	Assert(!categories->set || categories->count == 1);
	return categories->set ? text_to_cstring(categories->names[0]) : "*";
}

/* es_secrecy_report_subjects raises 54000: a state is of too many subjects to be kept. */
void
es_secrecy_report_subjects(const char *reducer)
{
	ereport(ERROR,
			errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			errmsg("a state of reducer \"%s\" is made of protected data of too many subjects", reducer),
			errdetail("It would have to be encrypted under more than %d keys.", ES_BUNDLE_MOST_KEYS),
			errhint("Let the reducer copy protected fields only, by operations, or leave them out; or fold by a key that one subject has."));
}

/*
 * es_secrecy_seal encrypts a stored state under keys, if it can be kept: with it, what it is
 * as jsonb, for those who read it and know nothing of its type.  In the current memory
 * context.
 */
void
es_secrecy_seal(EsStoredState *stored, const Jsonb *json, const EsKeyring *keys, const EsNames *categories)
{
	EsNode		parts[2] = {es_node_view(json)};
	EsNode		array;

	if (stored->text)
		parts[1] = es_node_view_string(VARDATA_ANY(stored->text), VARSIZE_ANY_EXHDR(stored->text));
	array = es_pack_array(parts, stored->text ? 2 : 1);
	stored->too_many = keys->count > ES_BUNDLE_MOST_KEYS;
	stored->too_large = !es_state_can_keep(stored) || !es_jsonsize_can_keep(json);
	if (!stored->too_many && !stored->too_large)
		stored->sealed = es_bundle_seal(keys, scope_of(categories), &array);
	stored->json = NULL;
	stored->text = NULL;
}

/*
 * es_secrecy_open undoes es_secrecy_seal, and gives the keys; false if the state is lost.
 * Where it has a text it has also what that is as jsonb.
 */
bool
es_secrecy_open(const text *sealed, const EsNames *categories, EsKeyring *keys, EsStoredState *opened)
{
	EsNode		array;
	EsNode		part;
	EsPackedReader reader;

	memset(opened, 0, sizeof(*opened));
	if (!es_bundle_open(sealed, scope_of(categories), keys, &array))
		return false;
	es_node_begin_elements(&reader, &array);
	if (!es_node_next_element(&reader, &part))
		elog(ERROR, "an encrypted state is empty");
	opened->json = es_pack_jsonb(&part);
	if (es_node_next_element(&reader, &part))
		opened->text = cstring_to_text_with_len(part.value.bytes, part.len);
	return true;
}

/*
 * es_secrecy_read gives what is stored of a state as readers may see it; NULL if it is
 * lost.  In the current memory context.
 */
Datum
es_secrecy_read(const Jsonb *state, const text *sealed, const EsNames *categories, bool *isnull)
{
	EsKeyring	keys = {0};
	EsStoredState opened = {.json = unconstify(Jsonb *, state)};

	*isnull = sealed ? !es_secrecy_open(sealed, categories, &keys, &opened) : state == NULL;
	return *isnull ? (Datum) 0 : es_field_open_all(JsonbPGetDatum(opened.json), categories, NULL, NULL);
}
