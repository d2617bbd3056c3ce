/*
 * clearance.c
 *		What of a feed its consumer may read.
 *
 * A consumer needs 'read' on all categories that a feed lets through, of those that it asks
 * for.  Its rights are taken when decoding begins, which is in the present; later, where the
 * catalogs are those of a place in the WAL, they cannot be asked for.  They are held against
 * what the feed is now, and again against each other definition that decoding meets, so an
 * es_alter_feed gives nobody more than he may read.  What is revoked counts from the next
 * connection on.
 */
#include "feed/clearance.h"

#include "miscadmin.h"

#include "base/objects.h"
#include "rights/right.h"

/*
 * es_clearance_take finds out what the current user may read, in the current memory context
 * and in a transaction.  A store that is made later is for superusers.
 */
void
es_clearance_take(EsClearance *clearance)
{
	memset(clearance, 0, sizeof(*clearance));
	clearance->role = GetUserNameFromId(GetUserId(), false);
	clearance->categories.set = true;
	if (es_base_is_installed())
		clearance->all = es_right_categories(ES_RIGHT_READ, &clearance->categories);
	else
		clearance->all = superuser();
}

/* Tells whether a category is among some, if these are set. */
static bool
is_category_among(const EsNames *categories, const char *name, int len)
{
	return !categories->set || es_names_have(categories, name, len);
}

/* Raises 42501 unless the consumer may read a category, NULL: all. */
static void
require_cleared_category(const EsClearance *clearance, const char *name, int len)
{
	if (clearance->all || (name && es_names_have(&clearance->categories, name, len)))
		return;
	ereport(ERROR,
			errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			errmsg("permission denied to read the feed"),
			name ?
			errdetail("Role \"%s\" does not have the privilege \"read\" on category \"%s\", which the feed lets through.",
					  es_names_show(clearance->role), es_names_show_bytes(name, len)) :
			errdetail("Role \"%s\" does not have the privilege \"read\" on \"*\", and the feed lets all categories through.",
					  es_names_show(clearance->role)),
			errhint("Whoever has the privilege \"admin\" on \"*\" can give it with es_grant; the option \"categories\" asks for less of the feed."));
}

/*
 * es_clearance_require raises 42501 unless the consumer may read all that a feed lets through
 * and the consumer asks for.  Looks into no catalog.
 */
void
es_clearance_require(const EsClearance *clearance, const EsFeedKept *kept, const EsFeedFilter *filter)
{
	const text *prefix = filter->stream_prefix;
	const EsNames *names = kept->categories.set ? &kept->categories : &filter->categories;
	const EsNames *others = kept->categories.set ? &filter->categories : &kept->categories;

	if (clearance->all)
		return;
	if (prefix && memchr(VARDATA_ANY(prefix), '-', VARSIZE_ANY_EXHDR(prefix)))
	{
		const char *name = VARDATA_ANY(prefix);
		int			len = es_names_category_length(name, VARSIZE_ANY_EXHDR(prefix));

		if (is_category_among(names, name, len) && is_category_among(others, name, len))
			require_cleared_category(clearance, name, len);
		return;
	}
	if (!names->set)
		require_cleared_category(clearance, NULL, 0);
	for (int i = 0; i < names->count; i++)
	{
		const char *name = VARDATA_ANY(names->names[i]);
		int			len = VARSIZE_ANY_EXHDR(names->names[i]);

		if (is_category_among(others, name, len))
			require_cleared_category(clearance, name, len);
	}
}
