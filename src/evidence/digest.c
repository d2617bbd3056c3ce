/*
 * digest.c
 *		Digests: SHA-256 of leaves and nodes.
 *
 * A leaf is the digest of a byte 0 and the text of an event, a node that of a byte 1 and
 * of what is below it to the left and to the right: so no node can pass for a leaf, as in
 * RFC 6962.  The text is, byte for byte, what
 *
 *		jsonb_build_array(position, stream, version, type, type_version, data, metadata,
 *			event_id, recorded_at)::text
 *
 * gives where TimeZone is UTC, in UTF-8, whatever the database's encoding is: a dump may
 * be restored into a database of another one.  (A character that Unicode does not have is as in
 * base/utf8text.c.)  An event is taken as it is stored.
 *
 * The server's own SHA-256 is used, through a context that is kept, since to make one
 * costs more than a digest.
 */
#include "evidence/digest.h"

#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

#include "base/utf8text.h"
#include "json/text.h"

#define LEAF_PREFIX		0
#define NODE_PREFIX		1
#define KEPT_TEXT		65536	/* bytes of room that are kept for the next
								 * event */

/* es_digest_begin makes a digester, in the current memory context. */
void
es_digest_begin(EsDigester *digester)
{
	digester->hash = pg_cryptohash_create(PG_SHA256);
	digester->scratch = AllocSetContextCreate(CurrentMemoryContext, "eventstore digest", ALLOCSET_DEFAULT_SIZES);
	initStringInfo(&digester->text);
}

/* es_digest_end frees it. */
void
es_digest_end(EsDigester *digester)
{
	pg_cryptohash_free(digester->hash);
	MemoryContextDelete(digester->scratch);
	pfree(digester->text.data);
}

/* es_digest_bytes makes the digest of bytes. */
void
es_digest_bytes(EsDigester *digester, const void *bytes, Size size, EsDigest *digest)
{
	if (pg_cryptohash_init(digester->hash) < 0 ||
		pg_cryptohash_update(digester->hash, bytes, size) < 0 ||
		pg_cryptohash_final(digester->hash, digest->bytes, ES_DIGEST_LENGTH) < 0)
		elog(ERROR, "could not compute a SHA-256 digest: %s", pg_cryptohash_error(digester->hash));
}

/* Appends the text of an event, in the encoding of the database. */
static void
append_event_text(StringInfo out, const EsEvent *event)
{
	appendStringInfoChar(out, '[');
	es_jsontext_integer(out, event->position);
	appendBinaryStringInfo(out, ", ", 2);
	es_jsontext_text(out, event->stream);
	appendBinaryStringInfo(out, ", ", 2);
	es_jsontext_integer(out, event->version);
	appendBinaryStringInfo(out, ", ", 2);
	es_jsontext_text(out, event->type);
	appendBinaryStringInfo(out, ", ", 2);
	es_jsontext_integer(out, event->type_version);
	appendBinaryStringInfo(out, ", ", 2);
	es_jsontext_jsonb(out, DatumGetJsonbP(event->data));
	appendBinaryStringInfo(out, ", ", 2);
	es_jsontext_jsonb(out, DatumGetJsonbP(event->metadata));
	appendBinaryStringInfo(out, ", ", 2);
	es_jsontext_uuid(out, &event->event_id);
	appendBinaryStringInfo(out, ", ", 2);
	es_jsontext_quoted_time(out, event->recorded_at);
	appendStringInfoChar(out, ']');
}

/* Makes room of a usual size in a text, and empties it. */
static void
empty_text(StringInfo text)
{
	if (text->maxlen > KEPT_TEXT)
	{
		text	  ->maxlen = KEPT_TEXT;
		text	  ->data = repalloc(text->data, KEPT_TEXT);
	}
	resetStringInfo(text);
}

/* Makes the text of an event, with the prefix of leaves, the digester's. */
static void
write_leaf_text(EsDigester *digester, const EsEvent *event)
{
	StringInfo text = &digester->text;
	char	   *ours;
	int			len;

	empty_text(text);
	appendStringInfoChar(text, LEAF_PREFIX);
	append_event_text(text, event);
	if (!es_utf8text_is_needed(text->data + 1, text->len - 1))
		return;
	len = text->len - 1;

	ours = pnstrdup(text->data + 1, len);
	text	  ->len = 1;

	es_utf8text_append(text, ours, len);
}

/* es_digest_event makes the leaf of an event. */
void
es_digest_event(EsDigester *digester, const EsEvent *event, EsDigest *leaf)
{
	MemoryContext old = MemoryContextSwitchTo(digester->scratch);

	write_leaf_text(digester, event);
	es_digest_bytes(digester, digester->text.data, digester->text.len, leaf);
	MemoryContextSwitchTo(old);
	MemoryContextReset(digester->scratch);
}

/* es_digest_pair makes the node above two others. */
void
es_digest_pair(EsDigester *digester, const EsDigest *left, const EsDigest *right, EsDigest *node)
{
	uint8		bytes[1 + 2 * ES_DIGEST_LENGTH];

	bytes[0] = NODE_PREFIX;
	memcpy(bytes + 1, left->bytes, ES_DIGEST_LENGTH);
	memcpy(bytes + 1 + ES_DIGEST_LENGTH, right->bytes, ES_DIGEST_LENGTH);
	es_digest_bytes(digester, bytes, sizeof(bytes), node);
}

/* es_digest_hex gives a digest as hexadecimal digits. */
char *
es_digest_hex(const EsDigest *digest)
{
	char	   *hex = palloc(2 * ES_DIGEST_LENGTH + 1);

	hex_encode((const char *) digest->bytes, ES_DIGEST_LENGTH, hex);
	hex[2 * ES_DIGEST_LENGTH] = '\0';
	return hex;
}

/* es_digest_bytea gives digests as they are stored. */
bytea *
es_digest_bytea(const EsDigest *digests, int count)
{
	Size		size = (Size) count * ES_DIGEST_LENGTH;
	bytea	   *stored = palloc(VARHDRSZ + size);

	SET_VARSIZE(stored, VARHDRSZ + size);
	if (count > 0)
		memcpy(VARDATA(stored), digests, size);
	return stored;
}
