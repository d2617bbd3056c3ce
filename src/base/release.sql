/* ---- release: which version this is ---- */

CREATE FUNCTION eventstore.require_library(script text) RETURNS void
	LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'es_release_require';
COMMENT ON FUNCTION eventstore.require_library(text) IS 'fails if the library that is loaded is older than a script of the extension; the first thing that each script calls';

SELECT eventstore.require_library((SELECT x.extversion FROM pg_catalog.pg_extension x WHERE x.extname OPERATOR(pg_catalog.=) 'eventstore'));
