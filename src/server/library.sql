/* ---- library: last of all ---- */

/* PUBLIC has no right on anything of ours; owners grant what they want used. */
DO $$
DECLARE
	routine pg_catalog.regprocedure;
	relation pg_catalog.regclass;
BEGIN
	FOR routine IN
		SELECT d.objid FROM pg_catalog.pg_depend d
		 WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
		   AND d.deptype OPERATOR(pg_catalog.=) 'e'
		   AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
		   AND d.refobjid OPERATOR(pg_catalog.=)
			   (SELECT x.oid FROM pg_catalog.pg_extension x WHERE x.extname OPERATOR(pg_catalog.=) 'eventstore')
	LOOP
		EXECUTE pg_catalog.format('REVOKE ALL ON ROUTINE %s FROM PUBLIC', routine);
	END LOOP;
	FOR relation IN
		SELECT d.objid FROM pg_catalog.pg_depend d
		  JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) d.objid
		 WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
		   AND d.deptype OPERATOR(pg_catalog.=) 'e'
		   AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
		   AND d.refobjid OPERATOR(pg_catalog.=)
			   (SELECT x.oid FROM pg_catalog.pg_extension x WHERE x.extname OPERATOR(pg_catalog.=) 'eventstore')
		   AND c.relkind OPERATOR(pg_catalog.=) ANY ('{r,p,v,S}')
	LOOP
		EXECUTE pg_catalog.format('REVOKE ALL ON %s FROM PUBLIC', relation);
	END LOOP;
END
$$;

/*
 * Event triggers, and the wrapper of placeholders, belong to the cluster's first superuser: they cannot be given to a
 * role that is none, and REASSIGN OWNED must not fail for ours.
 */
DO $$
DECLARE
	superuser pg_catalog.name := (SELECT r.rolname FROM pg_catalog.pg_roles r WHERE r.oid OPERATOR(pg_catalog.=) 10::pg_catalog.oid);
	event_trigger pg_catalog.name;
BEGIN
	FOR event_trigger IN
		SELECT e.evtname FROM pg_catalog.pg_depend d
		  JOIN pg_catalog.pg_event_trigger e ON e.oid OPERATOR(pg_catalog.=) d.objid
		 WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_event_trigger'::pg_catalog.regclass
		   AND d.deptype OPERATOR(pg_catalog.=) 'e'
		   AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
		   AND d.refobjid OPERATOR(pg_catalog.=)
			   (SELECT x.oid FROM pg_catalog.pg_extension x WHERE x.extname OPERATOR(pg_catalog.=) 'eventstore')
	LOOP
		EXECUTE pg_catalog.format('ALTER EVENT TRIGGER %I OWNER TO %I', event_trigger, superuser);
	END LOOP;
	EXECUTE pg_catalog.format('ALTER FOREIGN DATA WRAPPER eventstore_placeholder OWNER TO %I', superuser);
END
$$;
