/* ---- tile: the digests of the seals' tree ---- */

/*
 * Level 0 has the digests of events, 256 in a tile, and the positions of these (evidence/tile.c);
 * each level above the roots of 256 tiles of the one below.
 */
CREATE TABLE eventstore.seal_tiles (
	tile bigint NOT NULL,
	after_position bigint NOT NULL,
	level int NOT NULL,
	positions bytea NOT NULL,
	digests bytea NOT NULL,
	CONSTRAINT seal_tiles_pkey PRIMARY KEY (level, tile)
);
ALTER TABLE eventstore.seal_tiles ALTER digests SET STORAGE EXTERNAL;
COMMENT ON TABLE eventstore.seal_tiles IS 'the digests of what is sealed, 256 in a row, and of the tree over them';
COMMENT ON COLUMN eventstore.seal_tiles.after_position IS 'of level 0: the position of the last event of the tile before';

SELECT pg_catalog.pg_extension_config_dump('eventstore.seal_tiles', '');
