# Who may call what: each function, procedure, aggregate and view of the extension, by the right that it
# takes, for roles with each privilege on this category, on another and on all.  The rights are those that
# the table below says; a function or view that is not in it fails the test.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use Test::More;

my $node = new_node('main', streaming => 'logical', conf => "max_worker_processes = 20\n");
my $database = 'postgres';

sub sql { return $node->safe_psql($database, $_[0]) }

# ---- what there is to call ----

sql('CREATE EXTENSION eventstore; SELECT es_set_segment_size(100)');
sql(<<'END');
CREATE FUNCTION fold(state jsonb, data jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE RETURN state;
CREATE FUNCTION renew(data jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS 'SELECT data';
CREATE FUNCTION look(event es_event) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
SELECT es_register_reducer_ops(r, '*', '{"inc": {"n": 1}}') FROM unnest('{a,b,x-y}'::text[]) r;
SELECT es_append(c || '-1', 'T', '{}', '{"tags": ["t"]}') FROM unnest('{a,b}'::text[]) c, generate_series(1, 3);
SELECT count(es_append('old-1', 'T')) FROM generate_series(1, 120);
SELECT es_register_reducer('f', '*', 'fold(jsonb, jsonb)'), es_append('a-2', 'T'), es_append('a-2', 'T'), es_snapshot('a-2', 'f');
SELECT es_snapshot(c || '-1') FROM unnest('{a,b}'::text[]) c;
SELECT es_create_projection('of_' || c, 'count', category => c) FROM unnest('{a,b}'::text[]) c;
SELECT es_create_projection('of_all', 'count'), es_create_handler_projection('looks', 'look(es_event)', categories => '{a}');
SELECT es_run_projection('of_' || c) FROM unnest('{a,b,all}'::text[]) c;
SELECT es_subscribe('of_' || c, 0, ARRAY[c]) FROM unnest('{a,b}'::text[]) c;
SELECT es_subscribe('of_all'), es_set_retention('a', max_count => 100), es_set_retention('b', max_count => 100), es_set_retention('*', max_count => 1000);
SELECT es_register_upcaster_ops('U', 1, '"ignore"'), es_register_schema('S', '{}'), es_index_type('I');
SELECT es_protect(c, '{$.data.secret}', '$.stream'), es_append(c || '-2', 'T', '{"secret": 1}') FROM unnest('{a,b}'::text[]) c;
GRANT CREATE ON SCHEMA public TO PUBLIC;
END
my $sealed = sql('SELECT es_seal()');
# feeds without slots: what is done to them is undone by a rollback
foreach my $feed (qw(a b all))
{
	my $categories = $feed eq 'all' ? 'NULL' : "'{$feed}'";

	sql("SELECT es_create_feed('of_$feed', $categories)");
	sql("SELECT pg_drop_replication_slot('es_of_$feed')");
}
my $index = sql(q{SELECT es_index_projection('of_a', '((state ->> ''n''))')});
my $event = q{ROW(1, 'a-1', 1, 'T', 1, '{}', '{}', gen_random_uuid(), now())::es_event};

# ---- the rights that it takes ----

# What it takes, in a word or some, a call of it in category a, and the SQLSTATE that a superuser's call ends with.
#   nothing			everybody
#   any				some right on something
#   append, read, admin	that privilege on the category; with "and" two of them, with "or" one
#   … *				on all
#   … some			on something
my @calls = (
	# appends
	[ 'es_append(text,text,jsonb,jsonb,bigint,uuid,integer)', 'append', q{SELECT es_append('a-1', 'T')} ],
	[ 'es_append_batch(text,jsonb,bigint)', 'append', q{SELECT es_append_batch('a-1', '[{"type": "T"}]')} ],
	[ 'es_try_append(text,text,jsonb,jsonb,bigint,uuid,integer)', 'append', q{SELECT es_try_append('a-1', 'T')} ],
	[ 'es_append_json(text,text,bigint)', 'append', q{SELECT es_append_json('a-1', '[{"type": "T"}]')} ],
	[ 'es_append_events(text,es_new_event[],bigint)', 'append', q{SELECT es_append_events('a-1', ARRAY[ROW('T', '{}', '{}', NULL)::es_new_event])} ],
	[ 'es_append_many(jsonb)', 'append', q{SELECT * FROM es_append_many('[{"stream": "a-1", "type": "T"}]')} ],
	[ 'es_append_if(jsonb,bigint,text[],text[],jsonb)', 'append', q{SELECT es_append_if('[{"stream": "a-1", "type": "T"}]', 1000)} ],
	[ 'es_last_position()', 'nothing', q{SELECT es_last_position()} ],
	# streams
	[ 'es_read(text,bigint,bigint,boolean)', 'read', q{SELECT * FROM es_read('a-1')} ],
	[ 'es_stream_version(text)', 'read', q{SELECT es_stream_version('a-1')} ],
	[ 'es_position(text,bigint)', 'read', q{SELECT es_position('a-1', 1)} ],
	[ 'es_find_event(text,uuid)', 'read', q{SELECT * FROM es_find_event('a-1', gen_random_uuid())} ],
	[ 'es_delete_stream(text,bigint)', 'admin', q{SELECT es_delete_stream('a-1')} ],
	[ 'es_truncate_stream(text,bigint)', 'admin', q{SELECT es_truncate_stream('a-1', 2)} ],
	[ 'es_truncate_stream(text,bigint)', 'admin and read', q{SELECT es_truncate_stream('a-2', 2)} ],
	# the log
	[ 'es_read_all(bigint,bigint,text[],text[],text,bigint,boolean)', 'read some', q{SELECT * FROM es_read_all()} ],
	[ 'es_read_all(bigint,bigint,text[],text[],text,bigint,boolean)', 'read', q{SELECT * FROM es_read_all(categories => '{a}')} ],
	[ 'es_read_category(text,bigint,bigint,text[],bigint,boolean)', 'read', q{SELECT * FROM es_read_category('a')} ],
	[ 'es_read_query(jsonb,bigint,bigint,boolean,bigint)', 'read some', q{SELECT * FROM es_read_query('[{"tags": ["t"]}]')} ],
	[ 'es_read_tagged(text[],text[],bigint,bigint)', 'read some', q{SELECT * FROM es_read_tagged('{t}')} ],
	[ 'es_settled_position()', 'any', q{SELECT es_settled_position()} ],
	[ 'es_wait(bigint,interval)', 'any', q{SELECT es_wait(0, '0')} ],
	[ 'es_wait_for(bigint,interval,bigint)', 'any', q{CALL es_wait_for(0, '0')} ],
	[ 'es_hold_events(bigint)', 'read some', q{SELECT es_hold_events(0)} ],
	[ 'es_settle()', 'admin *', q{SELECT es_settle()} ],
	[ 'es_set_segment_size(bigint)', 'admin *', q{SELECT es_set_segment_size(1000)}, '55000' ],
	[ 'es_index_type(text)', 'admin *', q{SELECT es_index_type('J')} ],
	[ 'es_drop_type_index(text)', 'admin *', q{SELECT es_drop_type_index('I')} ],
	# states
	[ 'es_create_reducer(text,jsonb,regtype,text)', 'admin', q{SELECT es_create_reducer('a')}, '42710' ],
	[ 'es_create_reducer(text,jsonb,regtype,text)', 'admin *', q{SELECT es_create_reducer('of-none')} ],
	[ 'es_drop_reducer(text)', 'admin', q{SELECT es_drop_reducer('a')} ],
	[ 'es_drop_reducer(text)', 'admin *', q{SELECT es_drop_reducer('x-y')} ],
	[ 'es_register_reducer(text,text,regprocedure)', 'admin', q{SELECT es_register_reducer('a', 'T', 'public.fold(jsonb,jsonb)')} ],
	[ 'es_register_reducer(text,text,regprocedure)', 'admin *', q{SELECT es_register_reducer('x-y', 'T', 'public.fold(jsonb,jsonb)')} ],
	[ 'es_register_reducer_ops(text,text,jsonb)', 'admin', q{SELECT es_register_reducer_ops('a', 'T', '"ignore"')} ],
	[ 'es_register_reducer_ops(text,text,jsonb)', 'admin *', q{SELECT es_register_reducer_ops('x-y', 'T', '"ignore"')} ],
	[ 'es_snapshot_every(text,integer)', 'admin', q{SELECT es_snapshot_every('a', 10)} ],
	[ 'es_snapshot_every(text,integer)', 'admin *', q{SELECT es_snapshot_every('count', 10)} ],
	[ 'es_drop_snapshots(text)', 'admin', q{SELECT es_drop_snapshots('a')} ],
	[ 'es_drop_snapshots(text)', 'admin *', q{SELECT es_drop_snapshots('count')} ],
	[ 'es_adopt_snapshots(text)', 'admin', q{SELECT es_adopt_snapshots('a')} ],
	[ 'es_adopt_snapshots(text)', 'admin *', q{SELECT es_adopt_snapshots('count')} ],
	[ 'es_snapshot(text,text)', 'admin', q{SELECT es_snapshot('a-1')} ],
	[ 'es_snapshot(text,text)', 'admin and read', q{SELECT es_snapshot('a-1', 'f')} ],
	[ 'es_replay(text,text,bigint,timestamp with time zone)', 'read', q{SELECT * FROM es_replay('a-1')} ],
	[ 'es_replay_steps(text,text,bigint,bigint)', 'read', q{SELECT * FROM es_replay_steps('a-1')} ],
	[ 'es_replay_category(text,text,timestamp with time zone)', 'read', q{SELECT * FROM es_replay_category('a')} ],
	[ 'es_replay_as(text,anyelement,text,bigint,timestamp with time zone)', 'read', q{SELECT es_replay_as('a-1', NULL::jsonb)} ],
	[ 'es_fold(text,es_event)', 'any', qq{SELECT es_fold('count', $event)} ],
	# projections
	[ 'es_create_projection(text,text,text,text,text)', 'admin', q{SELECT es_create_projection('new', 'count', category => 'a')} ],
	[ 'es_create_projection(text,text,text,text,text)', 'admin and read', q{SELECT es_create_projection('new', 'f', category => 'a')} ],
	[ 'es_create_projection(text,text,text,text,text)', 'admin *', q{SELECT es_create_projection('new', 'count')} ],
	[ 'es_create_handler_projection(text,regprocedure,text,text[],text[],regprocedure)', 'admin and read', q{SELECT es_create_handler_projection('new', 'public.look(es_event)', categories => '{a}')} ],
	[ 'es_create_handler_projection(text,regprocedure,text,text[],text[],regprocedure)', 'admin * and read *', q{SELECT es_create_handler_projection('new', 'public.look(es_event)', categories => '{a,b}')} ],
	[ 'es_create_handler_projection(text,regprocedure,text,text[],text[],regprocedure)', 'admin some and read some', q{SELECT es_create_handler_projection('new', 'public.look(es_event)', categories => '{}')} ],
	[ 'es_drop_projection(text)', 'admin', q{SELECT es_drop_projection('of_a')} ],
	[ 'es_drop_projection(text)', 'admin *', q{SELECT es_drop_projection('of_all')} ],
	[ 'es_projection(text,text)', 'read', q{SELECT * FROM es_projection('of_a')} ],
	[ 'es_projection(text,text)', 'read *', q{SELECT * FROM es_projection('of_all')} ],
	[ 'es_projection_view(text,name)', 'admin', q{SELECT es_projection_view('of_a', 'shown')} ],
	[ 'es_index_projection(text,text)', 'admin and read', q{SELECT es_index_projection('of_a', '((state ->> ''m''))')} ],
	[ 'es_drop_projection_index(text,name)', 'admin', qq{SELECT es_drop_projection_index('of_a', '$index')} ],
	[ 'es_run_projection(text,bigint)', 'admin', q{SELECT es_run_projection('of_a')} ],
	[ 'es_wait_projection(text,bigint,interval)', 'read', q{SELECT es_wait_projection('of_a', 1, '0')} ],
	[ 'es_wait_projection(text,text,bigint,interval)', 'read', q{SELECT es_wait_projection('of_a', 'a-1', 1, '0')} ],
	[ 'es_wait_projection(text,text,bigint,interval)', 'read *', q{SELECT es_wait_projection('of_a', 'b-1', 1, '0')} ],
	[ 'es_rebuild_projection(text)', 'admin', q{SELECT es_rebuild_projection('of_a')} ],
	[ 'es_skip_event(text,bigint)', 'admin', q{SELECT es_skip_event('of_a', 1)}, '55000' ],
	# subscriptions; these are the superuser's
	[ 'es_subscribe(text,bigint,text[],text[],integer,integer,jsonb)', 'read', q{SELECT es_subscribe('new', categories => '{a}')} ],
	[ 'es_subscribe(text,bigint,text[],text[],integer,integer,jsonb)', 'read *', q{SELECT es_subscribe('new')} ],
	[ 'es_unsubscribe(text)', 'admin', q{SELECT es_unsubscribe('of_a')} ],
	[ 'es_unsubscribe(text)', 'admin *', q{SELECT es_unsubscribe('of_all')} ],
	[ 'es_rewind(text,bigint)', 'admin', q{SELECT es_rewind('of_a', 0)} ],
	[ 'es_alter_subscription(text,text[],text[],integer,jsonb)', 'admin', q{SELECT es_alter_subscription('of_a', NULL, NULL, 3)} ],
	[ 'es_alter_subscription(text,text[],text[],integer,jsonb)', 'admin and read', q{SELECT es_alter_subscription('of_a', '{a}', NULL, NULL)} ],
	[ 'es_alter_subscription(text,text[],text[],integer,jsonb)', 'admin and read *', q{SELECT es_alter_subscription('of_a', '{a,b}', NULL, NULL)} ],
	[ 'es_poll(text,integer,interval,text,interval)', 'read', q{SELECT * FROM es_poll('of_a')} ],
	[ 'es_poll(text,integer,interval,text,interval)', 'read *', q{SELECT * FROM es_poll('of_all')} ],
	[ 'es_poll_wait(text,interval,boolean,text)', 'read', q{CALL es_poll_wait('of_a', '0')} ],
	[ 'es_ack(text,integer,bigint,text)', 'read', q{SELECT es_ack('of_a', 0, 1)}, 'VE007' ],
	[ 'es_nack(text,integer,bigint,text,text)', 'read', q{SELECT es_nack('of_a', 0, 1, 'why')}, 'VE007' ],
	[ 'es_parked(text)', 'read', q{SELECT * FROM es_parked('of_a')} ],
	[ 'es_replay_parked(text,bigint)', 'read', q{SELECT es_replay_parked('of_a')} ],
	[ 'es_discard_parked(text,bigint)', 'admin', q{SELECT es_discard_parked('of_a', 1)}, '55000' ],
	# feeds; all roles have REPLICATION
	[ 'es_create_feed(text,text[],text[],text,jsonb)', 'read', q{SELECT * FROM es_create_feed('new', '{a}')}, '25001' ],
	[ 'es_create_feed(text,text[],text[],text,jsonb)', 'read *', q{SELECT * FROM es_create_feed('new')}, '25001' ],
	[ 'es_alter_feed(text,text[],text[],text,jsonb)', 'read', q{SELECT es_alter_feed('of_a', NULL, '{T}', NULL)} ],
	[ 'es_alter_feed(text,text[],text[],text,jsonb)', 'read *', q{SELECT es_alter_feed('of_all', '{a}', NULL, NULL)} ],
	[ 'es_alter_feed(text,text[],text[],text,jsonb)', 'read *', q{SELECT es_alter_feed('of_a', '{}', NULL, NULL)} ],
	[ 'es_drop_feed(text)', 'read', q{SELECT es_drop_feed('of_a')} ],
	[ 'es_drop_feed(text)', 'read *', q{SELECT es_drop_feed('of_all')} ],
	[ 'es_share_feed(text,text)', 'read', q{SELECT es_share_feed('of_a', 'new')} ],
	[ 'es_share_feed(text,text)', 'read *', q{SELECT es_share_feed('of_a', 'of_all')} ],
	[ 'es_feed_head()', 'read some', q{SELECT * FROM es_feed_head()} ],
	[ 'es_feed_history(bigint,bigint,text[],text[],jsonb,jsonb,bigint)', 'read', q{SELECT * FROM es_feed_history(categories => '{a}')} ],
	[ 'es_feed_history(bigint,bigint,text[],text[],jsonb,jsonb,bigint)', 'read *', q{SELECT * FROM es_feed_history()} ],
	[ 'es_feed_message(es_event,text)', 'read some', qq{SELECT es_feed_message($event)} ],
	# types
	[ 'es_register_upcaster(text,integer,regprocedure)', 'admin *', q{SELECT es_register_upcaster('T', 1, 'public.renew(jsonb)')} ],
	[ 'es_register_upcaster_ops(text,integer,jsonb)', 'admin *', q{SELECT es_register_upcaster_ops('T', 1, '"ignore"')} ],
	[ 'es_drop_upcaster(text,integer)', 'admin *', q{SELECT es_drop_upcaster('U', 1)} ],
	[ 'es_upcast(es_event)', 'any', qq{SELECT es_upcast($event)} ],
	[ 'es_register_schema(text,jsonb,text)', 'admin *', q{SELECT es_register_schema('T', '{}')} ],
	[ 'es_drop_schema(text,integer)', 'admin *', q{SELECT es_drop_schema('S', 1)} ],
	[ 'es_check_schema(jsonb,jsonb)', 'nothing', q{SELECT * FROM es_check_schema('{}', '{}')} ],
	[ 'es_compare_schemas(jsonb,jsonb,text)', 'nothing', q{SELECT * FROM es_compare_schemas('{}', '{}')} ],
	# what leaves
	[ 'es_set_retention(text,interval,bigint)', 'admin', q{SELECT es_set_retention('a', max_count => 50)} ],
	[ 'es_set_retention(text,interval,bigint)', 'admin *', q{SELECT es_set_retention('*', max_count => 50)} ],
	[ 'es_scavenge(bigint)', 'admin *', q{SELECT * FROM es_scavenge(0)} ],
	[ 'es_detach_segments(timestamp with time zone)', 'admin *', q{SELECT * FROM es_detach_segments('2020-01-01')} ],
	[ 'es_attach_segment(text)', 'admin *', q{SELECT es_attach_segment('eventstore.events_0')}, '55000' ],
	# evidence
	[ 'es_seal()', 'admin *', q{SELECT es_seal()} ],
	[ 'es_doctor()', 'admin *', q{SELECT count(*) FROM es_doctor()} ],
	[ 'es_metrics()', 'admin *', q{SELECT count(*) FROM es_metrics()} ],
	[ 'es_verify(bigint,bigint)', 'read * or admin *', q{SELECT * FROM es_verify()} ],
	[ 'es_proof(bigint,bigint)', 'read * or admin *', q{SELECT es_proof(1)} ],
	[ 'es_prove_consistency(bigint,bigint)', 'read * or admin *', qq{SELECT es_prove_consistency($sealed)} ],
	# secrets; all roles may run programs on the server
	[ 'es_protect(text,text[],text)', 'admin', q{SELECT es_protect('a', '{$.data.more}', '$.stream')} ],
	[ 'es_reveal(text,text,jsonb)', 'read', q{SELECT es_reveal('a-1', 'T', '{}')} ],
	[ 'es_shred(text)', 'admin *', q{SELECT es_shred('a-2')} ],
	[ 'es_rotate_master_key(text)', 'admin *', q{SELECT es_rotate_master_key('printf %064d 1')} ],
	# rights
	[ 'es_grant(regrole,text,text)', 'admin *', q{SELECT es_grant('nobody', 'read', 'a')} ],
	[ 'es_revoke(regrole,text,text)', 'admin *', q{SELECT es_revoke('nobody', 'read', 'a')} ],
);

# Views, and what is seen of them: what each row is about, in a word, and a query for that.  Of the categories a and b
# and of what is made of all, "all":
#   read, admin		those that one has this privilege on; with "or" one of them
#   any				everything, for who has some right on something
#   … *				everything, for who has that on all
my @views = (
	[ 'es_events', 'read', q{SELECT split_part(stream, '-', 1) FROM es_events WHERE stream IN ('a-1', 'b-1')} ],
	[ 'es_streams', 'read', q{SELECT category FROM es_streams WHERE category IN ('a', 'b')} ],
	[ 'es_snapshots', 'read', q{SELECT split_part(stream, '-', 1) FROM es_snapshots} ],
	[ 'es_segments', 'read * or admin *', q{SELECT 'all' FROM es_segments} ],
	[ 'es_in_flight', 'any', q{SELECT 'all' FROM (SELECT count(*) FROM es_in_flight) f WHERE es_settled_position() > 0} ],
	[ 'es_progress', 'any', q{SELECT 'all' FROM (SELECT count(*) FROM es_progress) p WHERE es_settled_position() > 0} ],
	[ 'es_projections', 'read or admin', q{SELECT substr(projection, 4) FROM es_projections WHERE projection LIKE 'of%'} ],
	[ 'es_subscriptions', 'read or admin', q{SELECT substr(subscription, 4) FROM es_subscriptions} ],
	[ 'es_feeds', 'some', q{SELECT substr(feed, 4) FROM es_feeds WHERE feed LIKE 'of%'} ],
	[ 'es_retention', 'read or admin, rest any', q{SELECT CASE category WHEN '*' THEN 'all' ELSE category END FROM es_retention} ],
	[ 'es_seals', 'any', q{SELECT 'all' FROM es_seals} ],
	[ 'es_protections', 'read or append or admin', q{SELECT category FROM es_protections} ],
	[ 'es_subjects', 'admin *', q{SELECT 'all' FROM es_subjects} ],
	[ 'es_reducers', 'any', q{SELECT 'all' FROM es_reducers} ],
	[ 'es_upcasters', 'any', q{SELECT 'all' FROM es_upcasters} ],
	[ 'es_schemas', 'any', q{SELECT 'all' FROM es_schemas} ],
	[ 'es_indexed_types', 'any', q{SELECT 'all' FROM es_indexed_types} ],
	[ 'es_grants', 'own', q{SELECT CASE category WHEN '*' THEN 'all' ELSE category END FROM es_grants WHERE pg_has_role(role, 'usage')} ],
	# reads of the log show the same
	[ 'es_read_all', 'read', q{SELECT split_part(stream, '-', 1) FROM es_read_all(max_count => NULL) WHERE stream IN ('a-1', 'b-1')} ],
	[ 'es_read_query', 'read', q{SELECT split_part(stream, '-', 1) FROM es_read_query('[{"tags": ["t"]}]')} ],
	[ 'es_read_tagged', 'read', q{SELECT split_part(stream, '-', 1) FROM es_read_tagged('{t}')} ],
);

# ---- nothing is left out ----

my $extension = q{d.refclassid = 'pg_extension'::regclass AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'eventstore') AND d.deptype = 'e'};

sub listed { my %seen; return join("\n", sort grep { !$seen{$_}++ } map { $_->[0] } @_) }

is(join("\n", sort split /\n/, sql(qq{SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid
	WHERE $extension AND p.pronamespace = 'public'::regnamespace})), listed(@calls), 'the right that it takes is told of each function, procedure and aggregate');
is(join("\n", sort split /\n/, sql(qq{SELECT c.relname FROM pg_class c JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid
	WHERE $extension AND c.relnamespace = 'public'::regnamespace AND c.relkind = 'v'})), listed(grep { $_->[0] !~ /^es_read/ } @views), 'of each view what is seen of it');

# ---- the roles ----

my @scopes = qw(a b all);
my %has = (nobody => {});

foreach my $scope (@scopes)
{
	$has{"${_}_$scope"} = { $_ => $scope } foreach qw(append read admin);
	$has{"full_$scope"} = { map { $_ => $scope } qw(append read admin) };
}
my @roles = sort keys %has;

sql("CREATE ROLE $_ LOGIN REPLICATION IN ROLE pg_execute_server_program") foreach @roles;
sql(q{CREATE FUNCTION try(who text, by text, statement text, OUT state text, OUT message text, OUT shown text) LANGUAGE plpgsql AS $$
BEGIN
	-- what it has done is undone, whatever becomes of it
	BEGIN
		PERFORM set_config('role', who, true);
		IF by IS NOT NULL THEN
			EXECUTE format('SELECT public.%I(%L)', by, statement) INTO shown;
		ELSIF statement LIKE 'CALL %' THEN
			EXECUTE statement;
		ELSE
			EXECUTE format('SELECT string_agg(DISTINCT s::text, '','') FROM (%s) s', statement) INTO shown;
		END IF;
		RAISE EXCEPTION USING ERRCODE = 'ZZZZZ';
	EXCEPTION WHEN OTHERS THEN
		state := CASE SQLSTATE WHEN 'ZZZZZ' THEN '' ELSE SQLSTATE END;
		message := CASE SQLSTATE WHEN 'ZZZZZ' THEN '' ELSE SQLERRM END;
	END;
END $$});

# has_right(role, term): whether a role has what one term of a right says
sub has_right
{
	my ($role, $term) = @_;
	my ($privilege, $on) = split / /, $term;
	my $scope;

	return 1 if $privilege eq 'nothing';
	return scalar %{ $has{$role} } if $privilege eq 'any';
	$scope = $has{$role}{$privilege} or return 0;
	return $scope eq 'all' || (!defined $on && $scope eq 'a') || (defined $on && $on eq 'some');
}

# may(role, right): whether a role may do what takes a right
sub may
{
	my ($role, $right) = @_;

	return !grep { my $all = $_; !grep { has_right($role, $_) } split / or /, $all } split / and /, $right;
}

# sees(role, what): which rows of a view a role is to see
sub sees
{
	my ($role, $what) = @_;
	my ($granted) = values %{ $has{$role} };
	my (%privileges, %seen);

	return '' unless defined $granted;
	return $granted if $what eq 'own';
	return 'all' if $what eq 'any';
	if ($what =~ / \*/)
	{
		return (grep { /^(\w+)/ && ($has{$role}{$1} // '') eq 'all' } split / or /, $what) ? 'all' : '';
	}
	$privileges{$_} = 1 foreach $what eq 'read' ? 'read' : $what =~ /append/ ? qw(read append admin) : qw(read admin);
	my ($scope) = map { $has{$role}{$_} // () } keys %privileges;
	if (defined $scope)
	{
		$seen{$_} = 1 foreach $scope eq 'all' ? qw(a b) : $scope;
		$seen{all} = 1 if $what eq 'some' || ($what eq 'read or admin' && $scope eq 'all');
	}
	$seen{all} = 1 if $what =~ /rest any/;
	return join(',', sort keys %seen);
}

# ---- a superuser ----

my $superuser = sql('SELECT current_user');

# try_all(who => role to be, by => function or nothing, statements): [state, message, shown] of each
sub quote { my ($text) = @_; $text =~ s/'/''/g; return "'$text'" }

sub try_all
{
	my ($who, $by, @statements) = @_;
	my $values = join(', ', map { "($_, " . quote($statements[$_]) . ')' } 0 .. $#statements);
	my $function = defined $by ? quote($by) : 'NULL';
	my @lines = split /\n/, sql("SELECT translate(concat_ws('|', t.state, t.message, coalesce(t.shown, '')), E'\\n', ' ') FROM (VALUES $values) v(n, statement), try('$who', $function, statement) t ORDER BY n");

	return map { [ split /\|/, $_, 3 ] } @lines;
}

my @statements = map { $_->[2] } @calls;
my @looks = map { "SELECT string_agg(x, ',' ORDER BY x COLLATE \"C\") FROM (SELECT DISTINCT x FROM ($_->[2]) y(x)) z" } @views;

{
	my @results = try_all($superuser, undef, @statements);

	is(join("\n", map { "$statements[$_]: $results[$_][0]" } 0 .. $#calls), join("\n", map { "$_->[2]: " . ($_->[3] // '') } @calls), 'the calls are sound') or
	  diag map { "$_->[0] $_->[1]\n" } grep { $_->[0] ne '' } @results;
}

# ---- the matrix ----

# is_matrix(how, who): for each role the calls that are allowed, and what is seen; who(role) tells which role is to be,
# and which function is to run the calls
sub is_matrix
{
	my ($how, $who, $same) = @_;
	my (@allowed, @wrong, @seen);

	foreach my $role (@roles)
	{
		my @as = $who->($role);
		my @results = try_all(@as, @statements);

		foreach my $n (0 .. $#calls)
		{
			push @{ $allowed[$n] }, $role if $results[$n][0] ne '42501';
			# a refusal is one by the store's rights, not by PostgreSQL's for something that it uses
			push @wrong, "$role: $statements[$n]: $results[$n][1]" if $results[$n][0] eq '42501' && $results[$n][1] !~ /^permission denied (for (the event store|category|stream)|to (append|read))/;
		}
		my @shown = try_all(@as, @looks);
		$seen[$_]{$role} = $shown[$_][0] eq '42501' ? '' : $shown[$_][0] eq '' ? $shown[$_][2] =~ s/[()"]//gr : $shown[$_][1] foreach 0 .. $#views;
	}
	foreach my $n (0 .. $#calls)
	{
		is(join(' ', @{ $allowed[$n] // [] }), join(' ', grep { may($same ? $same : $_, $calls[$n][1]) } @roles), "$how: $statements[$n] takes $calls[$n][1]");
	}
	is(join("\n", @wrong), '', "$how: what is refused is by the store's rights");
	foreach my $n (0 .. $#views)
	{
		is(join("\n", map { "$_ $seen[$n]{$_}" } @roles), join("\n", map { "$_ " . sees($same ? $same : $_, $views[$n][1]) } @roles), "$how: what is seen of $views[$n][0]");
	}
	return;
}

# nobody has anything yet
is_matrix('before any grant', sub { return ($_[0], undef) }, 'nobody');

foreach my $role (@roles)
{
	my $rights = $has{$role};

	sql(join('; ', map { "SELECT es_grant('$role', '$_', '" . ($rights->{$_} eq 'all' ? '*' : $rights->{$_}) . "')" } sort keys %$rights)) if %$rights;
}
is_matrix('by itself', sub { return ($_[0], undef) });

foreach my $role (@roles)
{
	sql("CREATE ROLE in_$role LOGIN REPLICATION IN ROLE $role; CREATE ROLE under_$role LOGIN REPLICATION NOINHERIT IN ROLE $role");
	sql(qq{CREATE FUNCTION as_$role(statement text) RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS \$\$
		DECLARE shown text;
		BEGIN
			IF statement LIKE 'CALL %' THEN
				EXECUTE statement;
			ELSE
				EXECUTE format('SELECT string_agg(DISTINCT s::text, '','') FROM (%s) s', statement) INTO shown;
			END IF;
			RETURN shown;
		END \$\$; ALTER FUNCTION as_$role OWNER TO $role});
}
is_matrix('as a member', sub { return ("in_$_[0]", undef) });
is_matrix('as a member that does not inherit', sub { return ("under_$_[0]", undef) }, 'nobody');
is_matrix('in a function of its own that somebody calls', sub { return ('nobody', "as_$_[0]") });

foreach my $role (@roles)
{
	my $rights = $has{$role};

	sql(join('; ', map { "SELECT es_revoke('$role', '$_', '" . ($rights->{$_} eq 'all' ? '*' : $rights->{$_}) . "')" } sort keys %$rights)) if %$rights;
}
is_matrix('after a revoke', sub { return ($_[0], undef) }, 'nobody');

# ---- what is behind it ----

is(sql(q{SELECT has_schema_privilege('nobody', 'eventstore', 'usage')}), 'f', 'what is in schema eventstore cannot be named');
is(sql(qq{SELECT count(*) FROM pg_class c JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid
	WHERE $extension AND c.relnamespace = 'eventstore'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'S') AND
	(c.relkind = 'S' AND has_sequence_privilege('nobody', c.oid, 'usage, select, update') OR c.relkind <> 'S' AND has_table_privilege('nobody', c.oid, 'select, insert, update, delete, truncate, references, trigger'))}),
	'0', 'nor are there rights on its tables');

done_testing();
