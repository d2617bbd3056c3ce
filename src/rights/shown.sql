/* ---- shown: what views show, and to whom ---- */

CREATE FUNCTION eventstore.may_see_all(categories text[]) RETURNS boolean
	LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL SAFE AS 'MODULE_PATHNAME', 'es_shown_may_see_all';
COMMENT ON FUNCTION eventstore.may_see_all(text[]) IS
	'whether the current user has read or admin on each of some categories, on all (NULL); behind views';

CREATE FUNCTION eventstore.may_see_some(categories text[]) RETURNS boolean
	LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL SAFE AS 'MODULE_PATHNAME', 'es_shown_may_see_some';
COMMENT ON FUNCTION eventstore.may_see_some(text[]) IS
	'whether the current user has read or admin on one of some categories, on any (NULL); behind views';

CREATE FUNCTION eventstore.may_read_all(categories text[]) RETURNS boolean
	LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL SAFE AS 'MODULE_PATHNAME', 'es_shown_may_read_all';
COMMENT ON FUNCTION eventstore.may_read_all(text[]) IS
	'whether the current user has read on each of some categories, on all (NULL); behind views';

CREATE FUNCTION eventstore.may_anything() RETURNS boolean
	LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'es_shown_may_anything';
COMMENT ON FUNCTION eventstore.may_anything() IS 'whether the current user has some right on something; behind views';

CREATE FUNCTION eventstore.require_read(role name, categories text[]) RETURNS boolean
	LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL SAFE AS 'MODULE_PATHNAME', 'es_shown_require_read';
COMMENT ON FUNCTION eventstore.require_read(name, text[]) IS
	'fails unless a role has read on each of some categories, on all (NULL); behind the views that es_projection_view makes';
