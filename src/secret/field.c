/*
 * field.c
 *		Protected fields of events: encrypted, and given out.
 *
 * A walk goes down from an event's data by the steps of a definition, and puts something else
 * in the place of each field that it comes to.  Objects and arrays on the way become nodes of a
 * tree whose leaves stay where they are, and the whole is written once, however deep it is.
 *
 * Where a field is - stream, type, event id, and its keys and numbers of elements - is
 * authenticated with it by a digest.  So an encrypted field that is put anywhere else, or
 * changed in a bit, is VE008.
 */
#include "secret/field.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "port/pg_bswap.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

#include "base/error.h"
#include "base/names.h"
#include "base/uuid7.h"
#include "json/node.h"
#include "json/pack.h"
#include "json/scope.h"
#include "json/size.h"
#include "json/tree.h"
#include "json/value.h"
#include "log/subscriber.h"
#include "secret/cipher.h"
#include "secret/envelope.h"
#include "secret/subject.h"
#include "secret/utf8.h"

#define LONGEST_PLACE	512		/* bytes, before more steps are added */

typedef struct FieldWalk FieldWalk;

/* Puts another value in the place of a protected one; false: it stays. */
typedef bool (*FieldChange) (FieldWalk *walk, const EsNode *value, EsNode *result);

struct FieldWalk
{
	FieldChange change;
	const EsEvent *event;
	const EsProtected *category;	/* of a walk that encrypts */
	const EsProtection *protection; /* the same */
	StringInfoData place;		/* of the value that the walk is at; without
								 * data: it is not wanted */
	bool		by_place;		/* what is encrypted is found by what it looks
								 * like: neither the event's position is known
								 * nor its id */
	bool		everywhere;		/* what is encrypted may be anywhere */
	bool		may_ask;		/* for the master key */
	const EsNames *categories;	/* whose fields may be opened everywhere */
	EsFieldNote note;			/* is told the keys of what is opened */
	void	   *note_arg;
	EsFieldResult result;
	bool		has_key;
	EsSubjectKey key;			/* of a walk that encrypts */
};

/* ---- places ---- */

/* Adds a string to a place, so that it ends where it ends. */
static void
add_to_place(StringInfo place, const char *bytes, int len)
{
	uint32		count;

	bytes = es_utf8_of(bytes, &len);
	count = pg_hton32(len);
	appendBinaryStringInfo(place, (const char *) &count, sizeof(count));
	appendBinaryStringInfo(place, bytes, len);
}

/* Adds a step to a place: to a member, or to an element of a number. */
static void
add_step_to_place(StringInfo place, const EsKey *key, uint32 number)
{
	if (place->data == NULL)
		return;
	appendStringInfoChar(place, key ? 'k' : 'n');
	if (key)
		add_to_place(place, key->bytes, key->len);
	else
	{
		number = pg_hton32(number);
		appendBinaryStringInfo(place, (const char *) &number, sizeof(number));
	}
}

/* Goes back to a place. */
static inline void
return_to_place(StringInfo place, int len)
{
	place->len = len;
}

/* Begins places in an event's data. */
static void
begin_places(FieldWalk *walk)
{
	const text *stream = DatumGetTextPP(walk->event->stream);
	const text *type = DatumGetTextPP(walk->event->type);

	initStringInfo(&walk->place);
	add_to_place(&walk->place, VARDATA_ANY(stream), VARSIZE_ANY_EXHDR(stream));
	add_to_place(&walk->place, VARDATA_ANY(type), VARSIZE_ANY_EXHDR(type));
}

/* Gives the digest of the place that a walk is at, in the event of an id. */
static void
digest_place(FieldWalk *walk, const uint8 *event_id, uint8 *context)
{
	int			len = walk->place.len;
	uint8		digest[ES_CIPHER_DIGEST];

	appendBinaryStringInfo(&walk->place, (const char *) event_id, UUID_LEN);
	es_cipher_digest(walk->place.data, walk->place.len, digest);
	memcpy(context, digest, ES_ENVELOPE_CONTEXT);
	return_to_place(&walk->place, len);
}

/*
 * Puts a digest in the place of a place that has become long, so that what is deep down is not
 * digested with the whole way for each field.  Gives what was there, or NULL.
 */
static char *
shorten_place(StringInfo place, int *len)
{
	uint8		digest[ES_CIPHER_DIGEST];
	char	   *before;

	if (place->len <= LONGEST_PLACE)
		return NULL;
	*len = place->len;
	before = memcpy(palloc(place->len), place->data, place->len);
	es_cipher_digest(before, place->len, digest);
	resetStringInfo(place);
	appendBinaryStringInfo(place, (const char *) digest, sizeof(digest));
	return before;
}

/* Puts that back. */
static void
restore_place(StringInfo place, char *before, int len)
{
	if (before == NULL)
		return;
	resetStringInfo(place);
	appendBinaryStringInfo(place, before, len);
	pfree(before);
}

/* ---- walking ---- */

static bool walk_value(FieldWalk *walk, const EsProtectedStep *step, const EsNode *value, EsNode *result);

/* Walks over the elements of an array. */
static bool
walk_elements(FieldWalk *walk, const EsProtectedStep *step, const EsNode *array, EsNode *result)
{
	EsPackedReader reader;
	EsArray    *made = palloc0(sizeof(EsArray));
	bool		changed = false;
	int			place = walk->place.len;

	es_node_begin_elements(&reader, array);
	made->count = reader.count;
	made->elements = palloc_extended(sizeof(EsNode) * Max(reader.count, 1), MCXT_ALLOC_HUGE);
	for (uint32 i = 0; i < made->count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		(void) es_node_next_element(&reader, &made->elements[i]);
		add_step_to_place(&walk->place, NULL, i);
		changed |= walk_value(walk, step, &made->elements[i], &made->elements[i]);
		return_to_place(&walk->place, place);
	}
	if (changed)
	{
		result->kind = ES_NODE_ARRAY;
		result->value.array = made;
		return true;
	}
	pfree(made->elements);
	pfree(made);
	return false;
}

/* Finds the step to a member, from the next one on; both come in one order. NULL: none. */
static const EsProtectedStep *
find_next_step(const EsProtectedStep *step, int *next, const EsKey *key)
{
	int			order = -1;

	while (*next < step->count && (order = es_tree_compare_keys(&step->steps[*next].key, key)) < 0)
		(*next)++;
	return *next < step->count && order == 0 ? &step->steps[*next] : NULL;
}

/* Walks over the members of an object that steps lead to. */
static bool
walk_members(FieldWalk *walk, const EsProtectedStep *step, const EsNode *object, EsNode *result)
{
	EsPackedReader reader;
	EsObject   *made = palloc0(sizeof(EsObject));
	EsNode		name = {ES_NODE_NULL};
	bool		changed = false;
	int			place = walk->place.len;
	int			next = 0;

	es_node_begin_members(&reader, object);
	made->count = reader.count;
	made->sorted = true;
	made->members = palloc_extended(sizeof(EsMember) * Max(reader.count, 1), MCXT_ALLOC_HUGE);
	for (uint32 i = 0; i < made->count; i++)
	{
		EsMember   *member = &made->members[i];
		const EsProtectedStep *to = step;

		(void) es_node_next_member(&reader, &name, &member->node);
		member->key.bytes = name.value.bytes;
		member->key.len = name.len;
		if (!walk->everywhere && (to = find_next_step(step, &next, &member->key)) == NULL)
			continue;
		CHECK_FOR_INTERRUPTS();
		add_step_to_place(&walk->place, &member->key, 0);
		changed |= walk_value(walk, to, &member->node, &member->node);
		return_to_place(&walk->place, place);
	}
	if (changed)
	{
		result->kind = ES_NODE_OBJECT;
		result->value.object = made;
		return true;
	}
	pfree(made->members);
	pfree(made);
	return false;
}

/* Walks on from a value that a step leads to; false if it stays as it is. */
static bool
walk_value(FieldWalk *walk, const EsProtectedStep *step, const EsNode *value, EsNode *result)
{
	EsNode		source = *value;
	bool		changed;
	char	   *before;
	int			len = 0;

	if (step->is_field && walk->change(walk, &source, result))
		return true;
	if ((step->count == 0 && !walk->everywhere) || source.kind != ES_NODE_PACKED)
		return false;
	check_stack_depth();
	before = shorten_place(&walk->place, &len);
	changed = es_node_is_array(&source) ? walk_elements(walk, step, &source, result) :
		walk_members(walk, step, &source, result);
	restore_place(&walk->place, before, len);
	return changed;
}

/* Walks over data; false if they stay as they are. */
static bool
walk_data(FieldWalk *walk, const EsProtectedStep *step, Datum *data)
{
	Jsonb	   *json = DatumGetJsonbP(*data);
	EsNode		whole = es_node_view(json);

	if (!walk_value(walk, step, &whole, &whole))
		return false;
	*data = JsonbPGetDatum(es_pack_jsonb(&whole));
	return true;
}

/* Takes a value out. */
static bool
blank_field(FieldWalk *walk, const EsNode *value, EsNode *result)
{
	result->kind = ES_NODE_NULL;
	return true;
}

/* ---- encrypting ---- */

/* Raises 22023 for an event whose protected data are nobody's. */
ES_NORETURN static void
refuse_without_subject(const FieldWalk *walk)
{
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("event of type \"%s\" for stream \"%s\" has protected fields but no subject",
				   es_names_show_text(DatumGetTextPP(walk->event->type)),
				   es_names_show_text(DatumGetTextPP(walk->event->stream))),
			errdetail("\"%s\" must lead to one string or number.", text_to_cstring(walk->protection->subject)));
}

/* Gives the subject of an event; NULL if it has none. */
static const text *
find_event_subject(const EsEvent *event, const EsProtection *protection)
{
	EsScope		scope;
	EsNode		found;

	es_scope_begin(&scope, event, NULL);
	if (!es_value_evaluate(protection->subject_value, &scope, &found))
		return NULL;
	if (found.kind == ES_NODE_STRING)
		return cstring_to_text_with_len(found.value.bytes, found.len);
	if (found.kind == ES_NODE_NUMBER)
		return cstring_to_text(numeric_normalize((Numeric) found.value.bytes));
	return NULL;
}

/* Gives the subject of an event; 22023 if it has none. */
static const text *
require_event_subject(const FieldWalk *walk)
{
	const text *subject = find_event_subject(walk->event, walk->protection);

	if (subject == NULL)
		refuse_without_subject(walk);
	es_names_check_name(subject, "subject", ES_MAX_STREAM_NAME);
	return subject;
}

/* Notes that there is a protected field. */
static bool
note_field(FieldWalk *walk, const EsNode *value, EsNode *result)
{
	walk->result = ES_FIELD_DONE;
	return false;
}

/*
 * es_field_judge_subject tells whether the protected fields of an event that is to be appended
 * have a subject that they can be encrypted for.  55000 if the master key is not to be had, also
 * for a subject that has no key yet.  Makes no key.
 */
EsFieldSubject
es_field_judge_subject(const EsEvent *event, const EsProtection *protection)
{
	FieldWalk	walk = {.change = note_field,.event = event,.protection = protection};
	Datum		data = event->data;
	const text *subject;

	(void) walk_data(&walk, &protection->data, &data);
	if (walk.result == ES_FIELD_NONE)
		return ES_FIELD_SUBJECT_GOOD;
	subject = find_event_subject(event, protection);
	if (subject == NULL || !es_names_is_name(subject, ES_MAX_STREAM_NAME))
		return ES_FIELD_SUBJECT_MISSING;
	return es_subject_is_shredded(subject, protection->hashed) ? ES_FIELD_SUBJECT_SHREDDED : ES_FIELD_SUBJECT_GOOD;
}

/* Encrypts a field. */
static bool
encrypt_field(FieldWalk *walk, const EsNode *value, EsNode *result)
{
	EsEnvelopeHeader header = {.version = ES_ENVELOPE_VERSION};

	if (!walk->has_key)
	{
		walk->key = es_subject_key_of(require_event_subject(walk), walk->protection->hashed);
		walk->has_key = true;
		walk->result = walk->key.state == ES_KEY_LIVE ? ES_FIELD_DONE : ES_FIELD_SHREDDED;
	}
	if (walk->result != ES_FIELD_DONE)
		return false;
	memcpy(header.key_id, walk->key.id.data, UUID_LEN);
	memcpy(header.event_id, walk->event->event_id.data, UUID_LEN);
	memcpy(header.category, walk->category->digest, ES_ENVELOPE_CATEGORY);
	digest_place(walk, header.event_id, header.context);
	*result = es_envelope_seal(&header, walk->key.key, value);
	return true;
}

/* Raises 54000 for an event that could not be given out, encrypted as it is. */
static void
check_encrypted_size(const EsEvent *event)
{
	if (es_jsonsize_judge_event(event->data, event->metadata, ES_MOST_TEXT) == ES_TEXT_FITS)
		return;
	ereport(ERROR,
			errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			errmsg("event is too large with its fields encrypted"),
			errdetail("The JSON text of its data and metadata is longer than %d bytes then; it is of type \"%s\", for stream \"%s\".",
					  ES_MOST_TEXT, es_names_show_text(DatumGetTextPP(event->type)),
					  es_names_show_text(DatumGetTextPP(event->stream))));
}

/*
 * es_field_encrypt encrypts the protected fields of an event that is to be appended; what is
 * new of its data is in the current memory context.  SHREDDED if they are those of a shredded
 * subject: the data stay as they are.  22023 if they are nobody's, 55000 if the master key is not
 * to be had.  May make the subject's key.
 */
EsFieldResult
es_field_encrypt(EsEvent *event, const EsProtected *category, const EsProtection *protection)
{
	FieldWalk	walk = {.change = encrypt_field,.event = event,.category = category,.protection = protection};

	begin_places(&walk);
	if (walk_data(&walk, &protection->data, &event->data))
		check_encrypted_size(event);
	pfree(walk.place.data);
	return walk.result;
}

/* Raises 22023 for a plain value that looks like an encrypted one. */
static bool
refuse_lookalike(FieldWalk *walk, const EsNode *value, EsNode *result)
{
	if (es_envelope_is_marked(value))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("event of type \"%s\" for stream \"%s\" has a field that looks encrypted",
					   es_names_show_text(DatumGetTextPP(walk->event->type)),
					   es_names_show_text(DatumGetTextPP(walk->event->stream))),
				errdetail("The field is no longer protected, and would be taken for one that is."),
				errhint("Append plain data, and no string that begins with \"%s\".", ES_ENVELOPE_MARKER));
	return false;
}

/*
 * es_field_check_plain raises 22023 if a new event has, where fields were protected once and are
 * not now, what looks like an encrypted one: es_reveal could not give it out.
 */
void
es_field_check_plain(const EsEvent *event, const EsProtected *category, const EsProtection *protection)
{
	FieldWalk	blank = {.change = blank_field};
	FieldWalk	walk = {.change = refuse_lookalike,.event = event};
	Datum		data = event->data;

	if (protection)
		(void) walk_data(&blank, &protection->data, &data);
	(void) walk_data(&walk, &category->ever, &data);
}

/* ---- giving out ---- */

/* Raises VE008 for a field that is not as it was encrypted. */
ES_NORETURN static void
report_changed_field(const EsEvent *event)
{
	ereport(ERROR,
			errcode(ES_ERRCODE_STORE_CORRUPT),
			event == NULL ?
			errmsg("encrypted value is not as it was encrypted") :
			errmsg("protected field of an event of stream \"%s\" is not as it was encrypted",
				   es_names_show_text(DatumGetTextPP(event->stream))),
			event == NULL ? 0 :
			event->position > 0 ? errdetail("The event is at position %lld.", (long long) event->position) :
			errdetail("The event is of type \"%s\".", es_names_show_text(DatumGetTextPP(event->type))));
}

/* Raises an error for a key that is not there. */
ES_NORETURN static void
report_missing_key(const uint8 *id)
{
	pg_uuid_t	key_id;

	memcpy(key_id.data, id, UUID_LEN);
	ereport(ERROR,
			errcode(es_subscriber_is() ? ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE : ES_ERRCODE_STORE_CORRUPT),
			errmsg("key of a protected field is missing"),
			errdetail("Table eventstore.subjects has no row with key_id %s.", es_uuid7_show(&key_id)),
			es_subscriber_is() ? errhint("Wait until the subscription has copied all tables of schema \"eventstore\".") : 0);
}

/* Opens an envelope of an event's field, or of no event's. */
static EsFieldResult
open_envelope(const EsEnvelope *envelope, bool may_ask, const EsEvent *event, EsNode *value)
{
	pg_uuid_t	id;
	EsSubjectKey key;

	memcpy(id.data, envelope->header.key_id, UUID_LEN);
	key = es_subject_find_key(&id, may_ask);
	switch (key.state)
	{
		case ES_KEY_LIVE:
			if (!es_envelope_open(envelope, key.key, value))
				report_changed_field(event);
			return ES_FIELD_DONE;
		case ES_KEY_SHREDDED:
			value->kind = ES_NODE_NULL;
			return ES_FIELD_SHREDDED;
		case ES_KEY_MISSING:
			report_missing_key(envelope->header.key_id);
		case ES_KEY_AWAY:
			break;
	}
	return ES_FIELD_AWAY;
}

/* Decrypts a field. */
static bool
decrypt_field(FieldWalk *walk, const EsNode *value, EsNode *result)
{
	EsEnvelope	envelope;
	uint8		context[ES_ENVELOPE_CONTEXT];

	if (walk->by_place && !es_envelope_is_marked(value))
		return false;
	if (!es_envelope_is_marked(value) || !es_envelope_parse(value->value.bytes, value->len, &envelope))
		report_changed_field(walk->event);
	digest_place(walk, envelope.header.event_id, context);
	if (memcmp(context, envelope.header.context, ES_ENVELOPE_CONTEXT) != 0 ||
		(!walk->by_place && memcmp(envelope.header.event_id, walk->event->event_id.data, UUID_LEN) != 0))
		report_changed_field(walk->event);
	if (walk->result == ES_FIELD_AWAY)
		return false;
	walk->result = open_envelope(&envelope, walk->may_ask, walk->event, result);
	if (walk->note && walk->result == ES_FIELD_DONE)
	{
		pg_uuid_t	id;

		memcpy(id.data, envelope.header.key_id, UUID_LEN);
		walk->note(&id, walk->note_arg);
	}
	return walk->result != ES_FIELD_AWAY;
}

/* es_field_reveal_noting: see field.h. */
bool
es_field_reveal_noting(EsEvent *event, EsFieldNote note, void *arg)
{
	const EsProtected *category = es_protection_of(DatumGetTextPP(event->stream));
	const EsProtection *protection = category ? es_protection_at(category, event->position) : NULL;
	FieldWalk	walk = {.change = decrypt_field,.event = event,.may_ask = true,.note = note,.note_arg = arg};
	bool		changed;

	if (protection == NULL)
		return false;
	begin_places(&walk);
	changed = walk_data(&walk, &protection->data, &event->data);
	pfree(walk.place.data);
	return changed;
}

/* es_field_reveal_protected is es_field_reveal where something is protected. */
bool
es_field_reveal_protected(EsEvent *event)
{
	return es_field_reveal_noting(event, NULL, NULL);
}

/*
 * es_field_reveal_stored is es_field_reveal for who compares a stored event with data that
 * are given anew, perhaps under a lock that does not allow to ask for the master key: AWAY then.
 * Where the stored ones are null since the subject is shredded, the given ones become so.
 */
EsFieldResult
es_field_reveal_stored(EsEvent *stored, Datum *given, bool may_ask)
{
	const EsProtected *category = es_protection_of(DatumGetTextPP(stored->stream));
	const EsProtection *protection = category ? es_protection_at(category, stored->position) : NULL;
	FieldWalk	walk = {.change = decrypt_field,.event = stored,.may_ask = may_ask};

	if (protection == NULL)
		return ES_FIELD_NONE;
	begin_places(&walk);
	(void) walk_data(&walk, &protection->data, &stored->data);
	pfree(walk.place.data);
	if (walk.result == ES_FIELD_SHREDDED)
	{
		FieldWalk	blank = {.change = blank_field};

		(void) walk_data(&blank, &protection->data, given);
	}
	return walk.result;
}

/*
 * es_field_reveal_data gives an event's data plain, in the current memory context, by no more than
 * the names of its stream and its type.  Of fields that are or were protected those are
 * decrypted that look encrypted; one that does so and is not is VE008.
 */
Datum
es_field_reveal_data(text *stream, text *type, Datum data)
{
	const EsProtected *category = es_protection_of(stream);
	EsEvent		event = {.stream = PointerGetDatum(stream),.type = PointerGetDatum(type)};
	FieldWalk	walk = {.change = decrypt_field,.event = &event,.by_place = true,.may_ask = true};

	if (category == NULL)
		return data;
	begin_places(&walk);
	(void) walk_data(&walk, &category->ever, &data);
	return data;
}

/* ---- values by themselves ---- */

/* Tells whether an encrypted field is of one of the categories of a walk. */
static bool
is_field_of_categories(const FieldWalk *walk, const EsEnvelope *envelope)
{
	const EsNames *categories = walk->categories;

	for (int i = 0; i < categories->count; i++)
	{
		uint8		digest[ES_CIPHER_DIGEST];

		es_protection_digest(categories->names[i], digest);
		if (memcmp(digest, envelope->header.category, ES_ENVELOPE_CATEGORY) == 0)
			return true;
	}
	return !categories->set;
}

/* Opens an encrypted field that may be anywhere; what is none stays. */
static bool
open_any_field(FieldWalk *walk, const EsNode *value, EsNode *result)
{
	EsEnvelope	envelope;
	EsSubjectKey key;
	pg_uuid_t	id;

	if (!es_envelope_is_marked(value) || !es_envelope_parse(value->value.bytes, value->len, &envelope) ||
		!is_field_of_categories(walk, &envelope))
		return false;
	memcpy(id.data, envelope.header.key_id, UUID_LEN);
	key = es_subject_find_key(&id, true);
	if (key.state == ES_KEY_MISSING)
		return false;
	if (key.state == ES_KEY_SHREDDED)
	{
		result->kind = ES_NODE_NULL;
		return true;
	}
	if (!es_envelope_open(&envelope, key.key, result))
		return false;
	if (walk->note)
		walk->note(&id, walk->note_arg);
	return true;
}

/* es_field_open_all: see field.h. */
Datum
es_field_open_all(Datum json, const EsNames *categories, EsFieldNote note, void *arg)
{
	static const EsProtectedStep any = {.is_field = true};
	FieldWalk	walk = {.change = open_any_field,.everywhere = true,.categories = categories,.note = note,.note_arg = arg};
	const Jsonb *whole = DatumGetJsonbP(json);

	if (memmem(whole, VARSIZE(whole), ES_ENVELOPE_MARKER, strlen(ES_ENVELOPE_MARKER)) != NULL)
		(void) walk_data(&walk, &any, &json);
	return json;
}
