# What the owner of a store, who is no superuser, has put on its tables runs with his rights also in the background
# workers, whose sessions are a superuser's, and leaves nothing behind that would run with more.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => "shared_preload_libraries = 'eventstore'\nmax_worker_processes = 16\nlog_line_prefix = '%b: '\n"
	. "eventstore.settle_interval = '100ms'\neventstore.seal_interval = '100ms'\n");

$node->safe_psql('postgres', 'CREATE ROLE keeper LOGIN SUPERUSER; CREATE DATABASE store OWNER keeper');

# as_keeper(sql): what it gives him
sub as_keeper { return $node->safe_psql('store', $_[0], extra_params => [ '-U', 'keeper' ]); }

as_keeper('CREATE EXTENSION eventstore; SELECT es_set_segment_size(100)');
$node->safe_psql('postgres', 'ALTER ROLE keeper NOSUPERUSER');
as_keeper(q{
	CREATE TABLE public.later ();
	CREATE FUNCTION public.come_later() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE LOG 'later as %', current_user; RETURN NULL; END $$;
	CREATE CONSTRAINT TRIGGER later AFTER INSERT ON public.later DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.come_later();

	-- tells who it is in sessions of others, and tries to become more, at once and at the commit
	CREATE FUNCTION public.grab(place text) RETURNS boolean LANGUAGE plpgsql AS $$
	BEGIN
		IF session_user = 'keeper' THEN
			RETURN true;
		END IF;
		RAISE LOG 'check of % as %', place, current_user;
		BEGIN
			EXECUTE 'RESET SESSION AUTHORIZATION';
			RAISE LOG 'session as %', current_user;
		EXCEPTION WHEN OTHERS THEN
			RAISE LOG 'refused: %', SQLERRM;
		END;
		BEGIN
			INSERT INTO public.later DEFAULT VALUES;
		EXCEPTION WHEN OTHERS THEN
			RAISE LOG 'refused: %', SQLERRM;
		END;
		RETURN true;
	END $$;

	-- the server calls it where it looks at the index
	CREATE FUNCTION public.peek(place text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
	BEGIN
		IF session_user <> 'keeper' THEN
			RAISE LOG 'index of % as %', place, current_user;
		END IF;
		RETURN place;
	END $$;
	DO $$
	DECLARE
		name text;
	BEGIN
		FOR name IN SELECT relname FROM pg_class WHERE relnamespace = 'eventstore'::regnamespace AND relkind = 'r' AND NOT relispartition LOOP
			EXECUTE format('ALTER TABLE eventstore.%I ADD CHECK (public.grab(%L)) NOT VALID', name, name);
		END LOOP;
	END $$;
	CREATE INDEX ON eventstore.streams (public.peek('streams'));
	CREATE INDEX ON eventstore.indexed_types (public.peek('indexed_types'));
	CREATE INDEX ON eventstore.segments (public.peek('segments'))});

# ---- each of the workers at work ----

my $looks = 0;
# seen(what): whether a worker has said so, by now; one name is enough
sub seen
{
	my ($what) = @_;

	return wait_until($what, sub { die "too long" if $looks++ > 150; slurp_file($node->logfile) =~ m{^$what}m });
}

as_keeper(q{SELECT count(es_append('a-' || n % 3, 'T', jsonb_build_object('n', n))) FROM generate_series(1, 350) n;
	SELECT es_register_reducer_ops('sums', 'T', '{"inc": {"n": 1}}'), es_create_projection('sums', 'sums', category => 'a');
	SELECT es_wait_projection('sums', 350, '60s')});
ok(seen('eventstore segment maker: LOG:  check of segments as'), 'segments are made');
ok(seen('eventstore worker: LOG:  check of projection_progress as'), 'projections follow');
ok(seen('eventstore worker: LOG:  check of settled_mark as'), 'the mark is written');
ok(seen('eventstore worker: LOG:  check of seals as'), 'the log is sealed');
as_keeper(q{SELECT es_index_type('T')});
ok(seen('eventstore type indexer: LOG:  index of indexed_types as'), 'types are indexed');
as_keeper(q{SELECT es_set_retention('a', max_count => 80)});
ok(seen('eventstore worker: LOG:  check of streams as'), 'what ages out is hidden');
as_keeper(q{SELECT es_truncate_stream('a-1', 60); SELECT * FROM es_scavenge()});
ok(seen('eventstore scavenger: LOG:  check of streams as'), 'hidden events are removed');
as_keeper(q{ALTER TABLE eventstore.events DETACH PARTITION eventstore.events_2});
as_keeper(q{SELECT es_attach_segment('eventstore.events_2')});
ok(seen('eventstore archiver: LOG:  index of streams as'), 'a segment is looked at and attached');

# ---- who they were ----

$node->stop;
my $log = slurp_file($node->logfile);
my %who;
$who{$2}{$1}++ while $log =~ /^(eventstore[\w ]*): LOG:  (?:check of \w+|index of \w+|session|later) as (\w+)/mg;
is(join(' ', sort keys %who), 'keeper', 'all of the owner\'s functions ran as the owner');
note "$_: $who{keeper}{$_}" foreach sort keys %{ $who{keeper} // {} };
is(join(' ', $log =~ /^eventstore[\w ]*: LOG:  (session|later) as/mg), '', 'who could become nobody else, and left nothing to run at the commit');
# one may have been at work as the server was stopped
unlike($log, qr/^eventstore[\w ]*: +(?:ERROR|FATAL|WARNING):  (?!terminating background worker)/m, 'and nothing failed');

done_testing();
