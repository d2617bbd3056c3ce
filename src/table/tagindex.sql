/* ---- tagindex: the access method of indexes by tag ---- */

CREATE FUNCTION eventstore.tagindex_handler(internal) RETURNS pg_catalog.index_am_handler
	LANGUAGE c STRICT VOLATILE PARALLEL SAFE AS 'MODULE_PATHNAME', 'es_tagindex_handler';
COMMENT ON FUNCTION eventstore.tagindex_handler(internal) IS 'behind access method eventstore_tags';

CREATE ACCESS METHOD eventstore_tags TYPE INDEX HANDLER eventstore.tagindex_handler;
COMMENT ON ACCESS METHOD eventstore_tags IS 'btree with an entry for each tag of an event';

CREATE OPERATOR CLASS eventstore.tags_ops DEFAULT FOR TYPE pg_catalog.jsonb USING eventstore_tags AS
	FUNCTION 1 pg_catalog.btint8cmp(bigint, bigint), STORAGE bigint;
CREATE OPERATOR CLASS eventstore.position_ops DEFAULT FOR TYPE bigint USING eventstore_tags AS
	FUNCTION 1 pg_catalog.btint8cmp(bigint, bigint);
