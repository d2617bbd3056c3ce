/* ---- reducer: reducers and their handlers ---- */

/*
 * Functions and types are kept by name: OIDs would not survive a dump or
 * pg_upgrade. Changed by the es_* functions only, past the guards.
 */
CREATE TABLE eventstore.reducers (
	reducer text COLLATE "C" NOT NULL,
	initial jsonb,
	state_type text NOT NULL,
	on_unknown text NOT NULL CHECK (on_unknown OPERATOR(pg_catalog.=) 'ignore' OR on_unknown OPERATOR(pg_catalog.=) 'error'),
	CONSTRAINT reducers_by_name PRIMARY KEY (reducer)
);
COMMENT ON TABLE eventstore.reducers IS 'reducers, without the built-in ones';

CREATE TABLE eventstore.reducer_handlers (
	reducer text COLLATE "C" NOT NULL,
	event_type text COLLATE "C" NOT NULL,
	handler text,
	ops jsonb,
	CONSTRAINT reducer_handlers_by_type PRIMARY KEY (reducer, event_type),
	CHECK ((handler IS NULL) OPERATOR(pg_catalog.<>) (ops IS NULL))
);
COMMENT ON TABLE eventstore.reducer_handlers IS 'which function, or which operations, fold events of which type';

CREATE TABLE eventstore.snapshot_policies (
	reducer text COLLATE "C" NOT NULL,
	every int CHECK (every OPERATOR(pg_catalog.>) 0),
	drops bigint NOT NULL,
	CONSTRAINT snapshot_policies_by_reducer PRIMARY KEY (reducer)
);
COMMENT ON TABLE eventstore.snapshot_policies IS 'after how many events a replay leaves a snapshot, if it does; of built-in reducers, too';
COMMENT ON COLUMN eventstore.snapshot_policies.drops IS 'how often the snapshots were dropped: what a replay leaves that began before is of no use';

SELECT pg_catalog.pg_extension_config_dump('eventstore.snapshot_policies', '');
SELECT pg_catalog.pg_extension_config_dump('eventstore.reducers', '');
SELECT pg_catalog.pg_extension_config_dump('eventstore.reducer_handlers', '');
