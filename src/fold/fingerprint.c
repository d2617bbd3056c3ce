/*
 * fingerprint.c
 *		Fingerprints of reducers: what snapshots depend on.
 *
 * A fingerprint is a digest of all that a reducer's states depend on and PostgreSQL
 * can see: the reducer's row, its handlers with the source of their functions, the
 * upcasters of the types that it handles, what the state's type is made of, and, if
 * it calls functions, the settings that they run with.  What a handler calls is not
 * in it.  It has no OIDs, so it survives a dump.
 */
#include "fold/fingerprint.h"

#include "common/cryptohash.h"
#include "port/pg_bswap.h"
#include "utils/jsonb.h"

#include "base/settings.h"
#include "fold/state.h"
#include "type/handler.h"
#include "type/upcast.h"

#define FINGERPRINT_FORMAT	1	/* to be raised when the same reducer comes to
								 * mean something else */

/* Raises what is wrong with a hash. */
ES_NORETURN static void
report_hash_failure(pg_cryptohash_ctx *hash)
{
	elog(ERROR, "could not compute a fingerprint: %s", pg_cryptohash_error(hash));
}

/* Adds a part of what a fingerprint is of; its length keeps parts apart. */
static void
add_fingerprint_part(pg_cryptohash_ctx *hash, const char *part, int len)
{
	int32		prefix = pg_hton32(len);

	if (pg_cryptohash_update(hash, (uint8 *) &prefix, sizeof(prefix)) < 0 ||
		pg_cryptohash_update(hash, (const uint8 *) part, len) < 0)
		report_hash_failure(hash);
}

/* Adds a handler to what a fingerprint is of. */
static void
add_fingerprint_handler(pg_cryptohash_ctx *hash, const char *type, const Jsonb *source, const EsFunction *function)
{
	StringInfoData description;

	add_fingerprint_part(hash, type, strlen(type));
	initStringInfo(&description);
	if (source != NULL)
		JsonbToCString(&description, (JsonbContainer *) &source->root, VARSIZE(source));
	else
		es_handler_describe(&description, function);
	add_fingerprint_part(hash, description.data, description.len);
}

/* es_fingerprint_compute computes the fingerprint of a reducer that is otherwise complete. */
void
es_fingerprint_compute(EsReducer *reducer)
{
	pg_cryptohash_ctx *hash = pg_cryptohash_create(PG_SHA256);
	StringInfoData head;

	if (hash == NULL || pg_cryptohash_init(hash) < 0)
		report_hash_failure(hash);
	initStringInfo(&head);
	appendStringInfo(&head, "%d;%s;%d;" INT64_FORMAT ";", FINGERPRINT_FORMAT, reducer->name,
					 reducer->unknown_is_error, reducer->drops);
	es_state_describe_type(&head, reducer->state_type);
	if (reducer->calls_functions)
		es_settings_describe(&head);
	if (reducer->initial != NULL)
		JsonbToCString(&head, (JsonbContainer *) &reducer->initial->root, VARSIZE(reducer->initial));
	add_fingerprint_part(hash, head.data, head.len);
	for (int i = 0; i < reducer->nhandlers; i++)
	{
		const EsHandler *handler = &reducer->handlers[i];

		if (handler->kind == ES_HANDLER_FUNCTION || handler->kind == ES_HANDLER_OPS)
			add_fingerprint_handler(hash, handler->type, handler->source, &handler->function);
	}
	for (int i = 0; i < reducer->upcasters->count; i++)
	{
		const EsUpcaster *upcaster = &reducer->upcasters->items[i];
		int32		version = pg_hton32(upcaster->from_version);

		if (!es_reducer_wants_upcaster(reducer, upcaster))
			continue;
		add_fingerprint_part(hash, (const char *) &version, sizeof(version));
		add_fingerprint_handler(hash, upcaster->type, upcaster->source, &upcaster->function);
	}
	if (pg_cryptohash_final(hash, reducer->fingerprint, sizeof(reducer->fingerprint)) < 0)
		report_hash_failure(hash);
	pg_cryptohash_free(hash);
}
