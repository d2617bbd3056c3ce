/* ---- tags: where tagged events are ---- */

/* One row for each tag of a tagged event; events without tags have none. */
CREATE TABLE eventstore.tags (
	position bigint NOT NULL,
	tag text COLLATE "C" NOT NULL,
	CONSTRAINT tags_by_tag PRIMARY KEY (tag, position)
);
COMMENT ON TABLE eventstore.tags IS 'positions of the events that carry a tag';
SELECT pg_catalog.pg_extension_config_dump('eventstore.tags', '');
