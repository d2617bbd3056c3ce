/* ---- library: last of all ---- */

/*
 * Everybody may call es_* functions and look at es_* views, which ask for the rights that es_grant
 * gives. The functions that views and casts call are called by whoever uses these, who needs
 * no USAGE on schema eventstore for that; they ask, too, or tell nothing. All else is the owner's.
 */
DO $$
DECLARE
	routine pg_catalog.regprocedure;
	relation pg_catalog.regclass;
	everybody boolean;
BEGIN
	FOR routine, everybody IN
		SELECT d.objid, p.pronamespace OPERATOR(pg_catalog.=) '@extschema@'::pg_catalog.regnamespace
				OR EXISTS (SELECT FROM pg_catalog.pg_depend r
					WHERE r.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_rewrite'::pg_catalog.regclass
					  AND r.refclassid OPERATOR(pg_catalog.=) d.classid AND r.refobjid OPERATOR(pg_catalog.=) d.objid)
				OR EXISTS (SELECT FROM pg_catalog.pg_cast c WHERE c.castfunc OPERATOR(pg_catalog.=) d.objid)
		  FROM pg_catalog.pg_depend d
		  JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) d.objid
		 WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
		   AND d.deptype OPERATOR(pg_catalog.=) 'e'
		   AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
		   AND d.refobjid OPERATOR(pg_catalog.=)
			   (SELECT x.oid FROM pg_catalog.pg_extension x WHERE x.extname OPERATOR(pg_catalog.=) 'eventstore')
	LOOP
		EXECUTE pg_catalog.format('REVOKE ALL ON ROUTINE %s FROM PUBLIC', routine);
		IF everybody THEN
			EXECUTE pg_catalog.format('GRANT EXECUTE ON ROUTINE %s TO PUBLIC', routine);
		END IF;
	END LOOP;
	FOR relation, everybody IN
		SELECT d.objid, c.relkind OPERATOR(pg_catalog.=) 'v' AND c.relnamespace OPERATOR(pg_catalog.=) '@extschema@'::pg_catalog.regnamespace
		  FROM pg_catalog.pg_depend d
		  JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) d.objid
		 WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
		   AND d.deptype OPERATOR(pg_catalog.=) 'e'
		   AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
		   AND d.refobjid OPERATOR(pg_catalog.=)
			   (SELECT x.oid FROM pg_catalog.pg_extension x WHERE x.extname OPERATOR(pg_catalog.=) 'eventstore')
		   AND c.relkind OPERATOR(pg_catalog.=) ANY ('{r,p,v,S}')
	LOOP
		EXECUTE pg_catalog.format('REVOKE ALL ON %s FROM PUBLIC', relation);
		IF everybody THEN
			EXECUTE pg_catalog.format('GRANT SELECT ON %s TO PUBLIC', relation);
		END IF;
	END LOOP;
	/* what views call that are made later */
	GRANT EXECUTE ON FUNCTION eventstore.require_read(name, text[]) TO PUBLIC;
	GRANT EXECUTE ON FUNCTION eventstore.shown_state(bigint, jsonb, text) TO PUBLIC;
	/*
	 * Columns, and not the view: who may INSERT into that, UPDATE or DELETE it may lock it, and with it all that is
	 * under it.
	 */
	GRANT INSERT (position, stream, version, type, type_version, data, metadata, event_id, recorded_at)
		ON @extschema@.es_events TO PUBLIC;
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
