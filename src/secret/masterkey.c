/*
 * masterkey.c
 *		The master key: what a command prints, kept by the session.
 *
 * The store never has the master key, only keys that are wrapped by it.  A session that
 * needs one of these runs eventstore.master_key_command, and keeps what it makes of its
 * output: a key that wraps, and a fingerprint, each an HMAC under the master key (the
 * second step of HKDF, RFC 5869, which is enough for a key that is random).  Rows have the
 * fingerprint of the master key that they are wrapped by.  So a session that has another one
 * runs the command again, and one whose command prints another key is told so.
 *
 * What is kept goes when the command is another one, with DISCARD ALL, and as the session
 * ends.  What fails is not kept: the next one who needs the key tries again.
 */
#include "secret/masterkey.h"

#include "port/pg_bswap.h"
#include "utils/guc.h"

#include "secret/arena.h"
#include "secret/cipher.h"
#include "secret/command.h"
#include "shared/counter.h"
#include "shared/trouble.h"

#define HEX_DIGITS		(2 * ES_CIPHER_KEY)
#define OUTPUT_BYTES	(4 * ES_ARENA_SLOT)

/* GUC eventstore.master_key_command */
static char *master_key_command = NULL;

/* GUC eventstore.master_key_timeout, ms */
static int	master_key_timeout = 5000;

static EsMasterKey kept;
static bool has_key = false;

/*
 * The setting is assigned to; the variable still has the former value.  It is at each reload of
 * the configuration, too, with the same one: then what is kept stays, as the command may just
 * fail, and would run in all sessions at once.
 */
static void
assign_master_key_command(const char *value, void *extra)
{
	if (master_key_command == NULL || value == NULL || strcmp(value, master_key_command) != 0)
		es_masterkey_forget();
}

/* Defines the GUCs; called once, from _PG_init. */
void
es_masterkey_init(void)
{
	DefineCustomStringVariable("eventstore.master_key_command",
							   "Shell command that prints the master key of protected fields.",
							   "It prints 64 hexadecimal digits, and runs as the operating system user of the server.",
							   &master_key_command, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY,
							   NULL, assign_master_key_command, NULL);
	DefineCustomIntVariable("eventstore.master_key_timeout",
							"How long the command that prints the master key may take.", NULL,
							&master_key_timeout, 5000, 1, 600000, PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
}

/* es_masterkey_forget wipes what is kept. */
void
es_masterkey_forget(void)
{
	has_key = false;
	es_arena_wipe_place(ES_ARENA_MASTER, 1);
}

/* Raises 55000: there is no master key.  Nothing of what a command prints is told. */
ES_NORETURN static void
report_no_key(const char *fault, EsArenaPlace place)
{
	ereport(ERROR,
			errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("master key of protected fields is not available"),
			errdetail_internal("%s", fault),
			place == ES_ARENA_MASTER ?
			errhint("Parameter \"eventstore.master_key_command\" must be a shell command that prints 64 hexadecimal digits and exits with status 0.") :
			errhint("Argument \"old_key_command\" must be a shell command that prints 64 hexadecimal digits and exits with status 0."));
}

/* The value of a hexadecimal digit; -1: it is none. */
static int
hex_value(char digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	if (digit >= 'a' && digit <= 'f')
		return digit - 'a' + 10;
	if (digit >= 'A' && digit <= 'F')
		return digit - 'A' + 10;
	return -1;
}

/* Takes the key that a command has printed; false if it is none. */
static bool
take_printed_key(const EsCommand *command, uint8 *key)
{
	const char *end = command->output + HEX_DIGITS;
	int			rest = command->len - HEX_DIGITS;

	if (rest < 0 || rest > 2 || (rest == 2 && *end++ != '\r') || (rest > 0 && *end != '\n'))
		return false;
	for (int i = 0; i < ES_CIPHER_KEY; i++)
	{
		int			high = hex_value(command->output[2 * i]);
		int			low = hex_value(command->output[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		key[i] = high << 4 | low;
	}
	return true;
}

/* Makes of a master key, in the scratch slot, what is kept of it in a place of the arena. */
static EsMasterKey
derive_from_master(EsArenaPlace place)
{
	static const char wrapping[] = "eventstore: wrapping\1";
	static const char fingerprint[] = "eventstore: fingerprint\1";
	const uint8 *master = es_arena_place(ES_ARENA_SCRATCH);
	uint8		digest[ES_CIPHER_DIGEST];
	EsMasterKey made = {.wrapping = es_arena_place(place)};

	es_cipher_authenticate(master, wrapping, sizeof(wrapping) - 1, es_arena_place(place));
	es_cipher_authenticate(master, fingerprint, sizeof(fingerprint) - 1, digest);
	memcpy(&made.fingerprint, digest, sizeof(made.fingerprint));
	made.fingerprint = (int64) pg_ntoh64((uint64) made.fingerprint);
	return made;
}

/* Runs a command and makes of what it prints what is kept of it; 55000 if it is no key. */
static EsMasterKey
run_key_command(const char *line, EsArenaPlace place)
{
	EsCommand	command = {.line = line,.timeout = master_key_timeout,.output = (char *) es_arena_place(ES_ARENA_OUTPUT),
	.room = OUTPUT_BYTES};
	EsMasterKey made = {0};

	if (line == NULL || line[0] == '\0')
		report_no_key("No command is set.", place);
	es_counter_add(ES_COUNT_KEY_COMMAND_RUNS, 1);
	PG_TRY();
	{
		es_command_run(&command);
		if (command.fault == NULL && command.len == 0)
			command.fault = "The command printed nothing.";
		else if (command.fault == NULL && !take_printed_key(&command, es_arena_place(ES_ARENA_SCRATCH)))
			command.fault = "The command printed something else than 64 hexadecimal digits.";
		if (command.fault == NULL)
			made = derive_from_master(place);
	}
	PG_FINALLY();
	{
		es_arena_wipe_place(ES_ARENA_SCRATCH, 1);
		es_arena_wipe_place(ES_ARENA_OUTPUT, OUTPUT_BYTES / ES_ARENA_SLOT);
	}
	PG_END_TRY();
	if (command.fault != NULL)
	{
		es_counter_add(ES_COUNT_KEY_COMMAND_FAILURES, 1);
		if (place == ES_ARENA_MASTER)
			(void) es_trouble_begin(ES_TASK_KEYS, command.fault);
		report_no_key(command.fault, place);
	}
	return made;
}

/* es_masterkey_is_at_hand tells whether the session has the master key of a fingerprint. */
bool
es_masterkey_is_at_hand(int64 fingerprint)
{
	return has_key && kept.fingerprint == fingerprint;
}

/* es_masterkey_renew runs the command, and gives the master key that is then kept. */
const EsMasterKey *
es_masterkey_renew(void)
{
	es_masterkey_forget();
	kept = run_key_command(master_key_command, ES_ARENA_MASTER);
	has_key = true;
	return &kept;
}

/* es_masterkey_get gives the master key of a fingerprint; 55000 if it is not to be had. */
const EsMasterKey *
es_masterkey_get(int64 fingerprint)
{
	if (es_masterkey_is_at_hand(fingerprint))
		return &kept;
	if (es_masterkey_renew()->fingerprint != fingerprint)
	{
		(void) es_trouble_begin(ES_TASK_KEYS, "It prints another key than the one that the store's keys are wrapped by.");
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("master key of protected fields is another one"),
				errdetail("What parameter \"eventstore.master_key_command\" prints is not the key that the store's keys are wrapped by."),
				errhint("Have it print that key; or, if this one is to take its place, call es_rotate_master_key with a command that prints the former one."));
	}
	es_trouble_end(ES_TASK_KEYS);
	return &kept;
}

/* es_masterkey_of_command gives the master key that another command prints, until the next one. */
EsMasterKey
es_masterkey_of_command(const char *command)
{
	return run_key_command(command, ES_ARENA_OTHER);
}
