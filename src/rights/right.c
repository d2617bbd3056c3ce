/*
 * right.c
 *		Who may do what: the one place that decides.
 *
 * Asked is the current user, so SECURITY DEFINER functions and SET ROLE work as they do
 * elsewhere.  The store's owner, whoever has its privileges, and superusers may do everything.
 * Others may do what eventstore.grants says of a role whose privileges they have.
 *
 * That is kept by session, for each role that asked.  Forgotten is all of it whenever a role,
 * a membership, a database (whose owner is a member of pg_database_owner) or the table has
 * changed: this session's own changes once their command is done, those of others as their
 * invalidations come in.  Each question takes these in, for a transaction that has all its locks
 * meets them nowhere else; so what was revoked and committed before is not granted, whatever
 * the snapshot of the transaction.  The table is read as of now.
 *
 * What is found out while an invalidation comes in answers this question and no other.  An
 * error keeps nothing.
 */
#include "rights/right.h"

#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "base/objects.h"
#include "rights/grantrow.h"
#include "table/rows.h"

#define MOST_ROLES		64		/* that are kept */

/* What a role may do in a category. */
typedef struct CategoryRights
{
	const text *category;		/* hash key */
	int			rights;
} CategoryRights;

/* What a role may do. */
typedef struct RoleRights
{
	Oid			role;			/* hash key */
	int			everywhere;
	int			somewhere;		/* everywhere, or in some category */
	HTAB	   *categories;		/* CategoryRights; NULL: none */
} RoleRights;

static uint64 news = 1;			/* invalidations */
static uint64 known_news = 0;	/* as of then is what is kept: */
static HTAB *known = NULL;		/* RoleRights */
static MemoryContext known_context = NULL;
static const RoleRights *last = NULL;	/* asked for last; NULL if nothing is
										 * kept */

/* ---- what is kept ---- */

/* Forgets what is kept: some role, membership, database or schema changed. */
static void
forget_rights_of_role(Datum arg, int cacheid, uint32 hashvalue)
{
	news++;
	last = NULL;
}

/* Forgets what is kept if the table has changed, or may have. */
static void
forget_rights_of_table(Datum arg, Oid relid)
{
	if (relid != es_grantrow_table.oid && OidIsValid(relid))
		return;
	news++;
	last = NULL;
}

/* es_right_init registers the invalidation callbacks; called once, from _PG_init. */
void
es_right_init(void)
{
	/* the owner of the extension owns its schema */
	CacheRegisterSyscacheCallback(NAMESPACEOID, forget_rights_of_role, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHOID, forget_rights_of_role, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, forget_rights_of_role, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHMEMMEMROLE, forget_rights_of_role, (Datum) 0);
	CacheRegisterSyscacheCallback(DATABASEOID, forget_rights_of_role, (Datum) 0);
	es_base_on_relation_change(forget_rights_of_table);
}

/* Gives the table of what is kept, emptied if it does not hold any more, or has become too much. */
static HTAB *
get_known_rights(void)
{
	HASHCTL		ctl = {.keysize = sizeof(Oid),.entrysize = sizeof(RoleRights)};

	if (known && known_news == news && hash_get_num_entries(known) < MOST_ROLES)
		return known;
	last = NULL;
	known = NULL;
	if (known_context)
		MemoryContextReset(known_context);
	else
		known_context = AllocSetContextCreate(TopMemoryContext, "eventstore rights", ALLOCSET_SMALL_SIZES);
	ctl.hcxt = known_context;
	known = hash_create("eventstore rights", 16, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	known_news = news;
	return known;
}

/* es_right_named gives the bit of a privilege; 0 for what is none. */
int
es_right_named(const char *privilege)
{
	if (strcmp(privilege, "read") == 0)
		return ES_RIGHT_READ;
	if (strcmp(privilege, "append") == 0)
		return ES_RIGHT_APPEND;
	if (strcmp(privilege, "admin") == 0)
		return ES_RIGHT_ADMIN;
	return 0;
}

/* Adds what a role may do in a category; all of it lies in the current memory context. */
static void
add_category_rights(RoleRights *of, int rights, const text *category)
{
	CategoryRights *entry;

	if (of->categories == NULL)
		of->categories = es_names_map("eventstore rights by category", 16, sizeof(CategoryRights),
									  CurrentMemoryContext);
	entry = hash_search(of->categories, &category, HASH_FIND, NULL);
	if (entry == NULL)
	{
		category = DatumGetTextPCopy(PointerGetDatum(category));
		entry = hash_search(of->categories, &category, HASH_ENTER, NULL);
		entry->rights = 0;
	}
	entry->rights |= rights;
}

/* Adds what a row says, if it is about the role; its memory is a context to be reset. */
static void
add_rights_of_row(RoleRights *of, const EsRows *rows, MemoryContext scratch)
{
	MemoryContext old = MemoryContextSwitchTo(scratch);
	EsGrantRow	row;
	int			right;

	es_grantrow_take(&row, rows);
	right = es_right_named(row.privilege);
	MemoryContextSwitchTo(old);
	if (OidIsValid(row.role) && has_privs_of_role(of->role, row.role))
	{
		of->somewhere |= right;
		if (row.category == NULL)
			of->everywhere |= right;
		else
			add_category_rights(of, right, row.category);
	}
	MemoryContextReset(scratch);
}

/* Reads what a role may do, in the current memory context. */
static void
read_rights(RoleRights *of)
{
	EsRows		rows = {.shape = &es_grantrow_shape,.mode = AccessShareLock};
	MemoryContext scratch;

	if (es_base_owns_store(of->role))
	{
		of->everywhere = of->somewhere = ES_RIGHTS_ALL;
		return;
	}
	if (!SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(of->role)))
		return;					/* its session outlives it */
	scratch = AllocSetContextCreate(CurrentMemoryContext, "eventstore grant", ALLOCSET_SMALL_SIZES);
	es_rows_begin(&rows);
	while (es_rows_next(&rows))
	{
		CHECK_FOR_INTERRUPTS();
		add_rights_of_row(of, &rows, scratch);
	}
	es_rows_end(&rows);
	MemoryContextDelete(scratch);
}

/* Finds what a role may do, in what is kept, or reads it. */
static const RoleRights *
look_up_rights(Oid role)
{
	RoleRights	rights = {.role = role};
	RoleRights *entry;
	MemoryContext context;
	MemoryContext old;

	Assert(!HistoricSnapshotActive());
	entry = hash_search(get_known_rights(), &role, HASH_FIND, NULL);
	if (entry)
		return last = entry;
	context = AllocSetContextCreate(CurrentMemoryContext, "eventstore rights of a role", ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(context);
	read_rights(&rights);
	MemoryContextSwitchTo(old);

	/*
	 * what came in on the way has known_news differ, and the next question
	 * look again
	 */
	entry = hash_search(known, &role, HASH_ENTER, NULL);
	*entry = rights;
	MemoryContextSetParent(context, known_context);
	if (known_news == news)
		last = entry;
	return entry;
}

/* Gives what the current user may do; it holds until the next look at the catalogs. */
static inline const RoleRights *
get_rights(void)
{
	Oid			role = GetUserId();

	AcceptInvalidationMessages();
	if (likely(last && last->role == role))
		return last;
	return look_up_rights(role);
}

/* ---- questions ---- */

/* Tells whether a role has one of some rights in a category. */
static bool
has_category_right(const RoleRights *of, int rights, const text *category)
{
	const CategoryRights *entry;

	if (likely(of->everywhere & rights))
		return true;
	if (category == NULL || of->categories == NULL)
		return false;
	entry = hash_search(of->categories, &category, HASH_FIND, NULL);
	return entry && (entry->rights & rights) != 0;
}

/* es_right_has tells whether the current user has one of some rights in a category. */
bool
es_right_has(int rights, const text *category)
{
	return has_category_right(get_rights(), rights, category);
}

/* es_right_has_on_stream tells whether the current user has it in that of a stream. */
bool
es_right_has_on_stream(int rights, const text *stream)
{
	const RoleRights *of = get_rights();
	const char *name = VARDATA_ANY(stream);
	int			len;
	union
	{
		struct varlena header;
		char		room[VARHDRSZ + ES_MAX_STREAM_NAME];
	}			category;

	if (likely(of->everywhere & rights))
		return true;
	len = es_names_category_length(name, VARSIZE_ANY_EXHDR(stream));
	if (len > ES_MAX_STREAM_NAME)
		return false;
	SET_VARSIZE(&category, VARHDRSZ + len);
	memcpy(VARDATA(&category), name, len);
	return has_category_right(of, rights, (const text *) &category);
}

/* es_right_has_any tells whether the current user has one of some rights on anything. */
bool
es_right_has_any(int rights)
{
	return (get_rights()->somewhere & rights) != 0;
}

/* Finds the first of some categories in which a right is missing; NULL if there is none. */
static const text *
find_category_without(int rights, const EsNames *categories)
{
	const RoleRights *of = get_rights();

	for (int i = 0; i < categories->count; i++)
		if (!has_category_right(of, rights, categories->names[i]))
			return categories->names[i];
	return NULL;
}

/*
 * es_right_has_all tells whether the current user has one of some rights in each of some
 * categories; in all there are and will be, if these are not set, and in any, if there are
 * none of them.
 */
bool
es_right_has_all(int rights, const EsNames *categories)
{
	if (!categories->set)
		return es_right_has(rights, NULL);
	if (categories->count == 0)
		return es_right_has_any(rights);
	return find_category_without(rights, categories) == NULL;
}

/*
 * es_right_categories gives the categories, in the current memory context, in which the
 * current user has one of some rights; true, and none, if it is all there are and will be.
 */
bool
es_right_categories(int rights, EsNames *categories)
{
	const RoleRights *of = get_rights();
	const CategoryRights *entry;
	HASH_SEQ_STATUS scan;

	memset(categories, 0, sizeof(*categories));
	if (of->everywhere & rights)
		return true;
	categories->set = true;
	if (of->categories == NULL)
		return false;
	hash_seq_init(&scan, of->categories);
	while ((entry = hash_seq_search(&scan)) != NULL)
		if (entry->rights & rights)
			(void) es_names_add(categories, DatumGetTextPCopy(PointerGetDatum(entry->category)));
	return false;
}

/* ---- refusals ---- */

/* Says which rights would do. */
static const char *
show_rights(int rights)
{
	StringInfoData shown;

	initStringInfo(&shown);
	if (rights & ES_RIGHT_READ)
		appendStringInfoString(&shown, "\"read\"");
	if (rights & ES_RIGHT_APPEND)
		appendStringInfo(&shown, "%s\"append\"", shown.len > 0 ? " or " : "");
	if (rights & ES_RIGHT_ADMIN)
		appendStringInfo(&shown, "%s\"admin\"", shown.len > 0 ? " or " : "");
	return shown.data;
}

/* What a refusal hints at; another part of the same ereport. */
static int
hint_at_grant(void)
{
	return errhint("Whoever has the privilege \"admin\" on \"*\" can give privileges with es_grant.");
}

/* The current user's name, as messages show it. */
static const char *
show_user(void)
{
	const char *name = GetUserNameFromId(GetUserId(), true);

	return name ? es_names_show(name) : "?";
}

/* Raises 42501 for a category, NULL: for the store. */
static void
refuse_category(int rights, const text *category)
{
	if (category == NULL)
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("permission denied for the event store"),
				errdetail("Role \"%s\" does not have the privilege %s on \"*\".", show_user(), show_rights(rights)),
				hint_at_grant());
	ereport(ERROR,
			errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			errmsg("permission denied for category \"%s\"", es_names_show_text(category)),
			errdetail("Role \"%s\" does not have the privilege %s on it.", show_user(), show_rights(rights)),
			hint_at_grant());
}

/* es_right_require raises 42501 unless the current user has one of some rights in a category. */
void
es_right_require(int rights, const text *category)
{
	if (unlikely(!es_right_has(rights, category)))
		refuse_category(rights, category);
}

/* es_right_require_stream raises 42501 unless the current user has it in that of a stream. */
void
es_right_require_stream(int rights, const text *stream)
{
	const char *name = VARDATA_ANY(stream);

	if (likely(es_right_has_on_stream(rights, stream)))
		return;
	ereport(ERROR,
			errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			errmsg("permission denied for stream \"%s\"", es_names_show_text(stream)),
			errdetail("Role \"%s\" does not have the privilege %s on category \"%s\".", show_user(), show_rights(rights),
					  es_names_show_bytes(name, es_names_category_length(name, VARSIZE_ANY_EXHDR(stream)))),
			hint_at_grant());
}

/*
 * es_right_require_all raises 42501 unless the current user has one of some rights in each
 * of some categories, as es_right_has_all tells.
 */
void
es_right_require_all(int rights, const EsNames *categories)
{
	if (categories->set && categories->count == 0)
		es_right_require_any(rights);
	else if (unlikely(!es_right_has_all(rights, categories)))
		refuse_category(rights, categories->set ? find_category_without(rights, categories) : NULL);
}

/* es_right_require_any raises 42501 unless the current user has one of some rights on anything. */
void
es_right_require_any(int rights)
{
	if (unlikely(!es_right_has_any(rights)))
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("permission denied for the event store"),
				errdetail("Role \"%s\" does not have the privilege %s on any category.", show_user(),
						  show_rights(rights)),
				hint_at_grant());
}
