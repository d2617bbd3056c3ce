/* ---- walmark: which positions belong to which part of the WAL ---- */

/* Of this server's WAL, so not dumped. One row at most; the arrays are parallel. */
CREATE TABLE eventstore.wal_mark (
	lsns pg_lsn[] NOT NULL,
	positions bigint[] NOT NULL
) WITH (fillfactor = 10);
ALTER TABLE eventstore.wal_mark ALTER lsns SET STORAGE PLAIN, ALTER positions SET STORAGE PLAIN;
COMMENT ON TABLE eventstore.wal_mark IS 'places in the WAL, and the positions up to which the log was final there; behind es_feeds';
