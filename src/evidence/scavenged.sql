/* ---- scavenged: what was removed of a store that is sealed ---- */

/* A row has the events that one batch has removed, from a position on; their positions, streams and versions. */
CREATE TABLE eventstore.scavenged (
	position bigint NOT NULL,
	events bytea NOT NULL,
	CONSTRAINT scavenged_pkey PRIMARY KEY (position)
);
COMMENT ON TABLE eventstore.scavenged IS 'events that scavenging has removed since the store was sealed first';

SELECT pg_catalog.pg_extension_config_dump('eventstore.scavenged', '');
