-- Act 2: what a file is, folded from its changes.
CREATE FUNCTION file_written(state jsonb, event es_event) RETURNS jsonb
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN (event).data || jsonb_build_object('changes', (event).version);

CREATE FUNCTION file_deleted(state jsonb, data jsonb) RETURNS jsonb
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN '{"deleted": true}'::jsonb;

SELECT es_register_reducer('file', 'FileAdded', 'file_written(jsonb, es_event)');
SELECT es_register_reducer('file', 'FileModified', 'file_written(jsonb, es_event)');
SELECT es_register_reducer('file', 'FileDeleted', 'file_deleted(jsonb, jsonb)');
