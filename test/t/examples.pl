# The examples of the pages: each block of SQL in README.md and doc/ runs, in order, in a
# database of its own for each page or chapter of the manual, and each statement gives what
# the comment behind it says: a value, rows, or an error.  A block that cannot run here has
# "<!-- not run: why -->" before it.
use strict;
use warnings;
use utf8;
use Encode ();
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

# What a page, or a chapter, takes for granted.
my $order = q{SELECT es_append('order-123', t, '{"total": 120, "customerId": "c-42", "customer": "Ann"}') FROM unnest(ARRAY[%s]) t;};
my %before = (
	'doc/eventstore.md 15. Rights' => 'CREATE ROLE shop; CREATE ROLE reporting;',
	'doc/eventstore.md 18. Pools' => sprintf($order, "'OrderPlaced', 'A', 'B', 'C', 'D', 'E'") . q{SELECT es_create_projection('orders', 'merge', category => 'order');},
	'doc/eventstore.md 25. Evidence' => q{
		SELECT es_append_batch('order-1', (SELECT jsonb_agg('{"type": "T"}'::jsonb) FROM generate_series(1, 1042)));},
	'doc/migrating.md' => q{
		CREATE SCHEMA message_db;
		CREATE TABLE message_db.messages (global_position bigserial PRIMARY KEY, position bigint, time timestamp, stream_name text, type text, data jsonb, metadata jsonb, id uuid);
		CREATE SCHEMA emmett;
		CREATE SEQUENCE emmett.emt_global_message_position START 4;
		CREATE TABLE emmett.emt_streams (stream_id text, stream_position bigint, partition text DEFAULT 'emt:default', stream_type text, stream_metadata jsonb,
			is_archived boolean DEFAULT false, PRIMARY KEY (stream_id, partition, is_archived));
		CREATE TABLE emmett.emt_messages (stream_position bigint, global_position bigint DEFAULT nextval('emmett.emt_global_message_position'), transaction_id xid8, created timestamptz,
			is_archived boolean DEFAULT false, message_kind varchar(1) DEFAULT 'E', stream_id text, partition text DEFAULT 'emt:default', message_schema_version text, message_id text,
			message_type text, message_data jsonb, message_metadata jsonb, PRIMARY KEY (stream_id, stream_position, partition, is_archived));
		CREATE SCHEMA marten;
		CREATE SEQUENCE marten.mt_events_sequence START 7;
		CREATE TABLE marten.mt_streams (id varchar PRIMARY KEY, version bigint);
		CREATE TABLE marten.mt_events (seq_id bigint PRIMARY KEY DEFAULT nextval('marten.mt_events_sequence'), id uuid, stream_id varchar, version bigint, data jsonb, type varchar(500),
			"timestamp" timestamptz, mt_dotnet_type varchar, headers jsonb);
		INSERT INTO es_events (stream, type, data) SELECT s, 'Opened', jsonb_build_object('n', n) FROM unnest('{a-1,b-1,c-1}'::text[]) s, generate_series(1, 3) n ORDER BY 1, n;
		INSERT INTO message_db.messages SELECT position, version - 1, recorded_at AT TIME ZONE 'UTC', stream, type, data, NULL, event_id FROM es_events WHERE stream = 'a-1';
		INSERT INTO emmett.emt_messages (stream_position, transaction_id, created, stream_id, message_schema_version, message_id, message_type, message_data, message_metadata)
			SELECT version, pg_current_xact_id(), recorded_at, stream, '1', event_id, type, data, '{}' FROM es_events WHERE stream = 'b-1' ORDER BY version;
		INSERT INTO marten.mt_events (id, stream_id, version, data, type, "timestamp") SELECT event_id, stream, version, data, type, recorded_at FROM es_events WHERE stream = 'c-1' ORDER BY version;
		SELECT es_append('new-1', 'Opened')},
	'doc/applications.md' => q{SELECT es_register_reducer_ops('order', 'OrderPlaced', '"merge"');});

my $folder = PostgreSQL::Test::Utils::tempdir();
my $node = new_node('main', streaming => 'logical', conf => "shared_preload_libraries = 'eventstore'\nmax_worker_processes = 20\n");
my $json = JSON::PP->new->canonical->allow_nonref;

# sections(file): its blocks of SQL by page or chapter, each its line, why it does not run, and its lines.
sub sections
{
	my ($file) = @_;
	my ($number, $section, $mark, $block, @sections) = (0, $file, '', undef);

	foreach my $line (split /\n/, Encode::decode('UTF-8', slurp_file($file)))
	{
		$number++;
		if ($block)
		{
			if ($line eq '```') { undef $block; }
			else { push @{ $block->{lines} }, $line; }
		}
		elsif ($line =~ /^```sql\b/)
		{
			$block = { line => $number, mark => $mark, lines => [] };
			push @sections, [$section] if !@sections || $sections[-1][0] ne $section;
			push @{ $sections[-1] }, $block;
		}
		elsif ($line =~ /^```./ || $line eq '```') { $block = { lines => [] }; }
		elsif ($file eq 'doc/eventstore.md' && $line =~ /^## (.*)/) { $section = "$file $1"; }
		$mark = $line =~ /^<!-- (not run\b.*) -->$/ ? $1 : '';
	}
	return @sections;
}

# statements(lines): each its SQL and what the comments behind it say.
sub statements
{
	my ($sql, $quotes, @statements) = ('', 0);

	foreach my $line (@_)
	{
		my ($code, $comment) = $line =~ /^((?:[^'-]|-(?!-)|'[^']*')*)--\s?(.*)$/;

		# the end of a string that began before, perhaps
		($code, $comment) = $line =~ /^(.*;)\s+-- (.*)$/ if !defined $code;
		($code, $comment) = ($line, '') if !defined $code || $quotes;
		if ($code !~ /\S/ && $sql eq '')
		{
			push @{ $statements[-1]{says} }, $comment if @statements && $comment ne '';
			next;
		}
		$sql .= "$code\n";
		$quotes ^= 1 while $code =~ /\$\$/g;
		next if $quotes || $code !~ /;\s*$/;
		push @statements, { sql => $sql, says => [ $comment eq '' ? () : $comment ] };
		$sql = '';
	}
	push @statements, { sql => $sql, says => [] } if $sql =~ /\S/;
	return @statements;
}

# same_value(said, got): the same JSON or text; "…" stands for anything.
sub same_value
{
	my ($said, $got) = map { my $text = $_; $text =~ /^[\[{]/ ? eval { $json->encode($json->decode($text)) } // $text : $text } @_;
	my $pattern = join '.*', map { quotemeta } split /…/, $said, -1;

	return $got =~ /^$pattern$/s;
}

# has_value(said, rows): whether a row has it, in its last columns.
sub has_value
{
	my ($said, @rows) = @_;

	foreach my $row (@rows)
	{
		my @cells = map { { t => 'true', f => 'false' }->{$_} // $_ } split /\x1f/, $row, -1;
		foreach my $first (0 .. $#cells) { return 1 if same_value($said, join(', ', @cells[ $first .. $#cells ])); }
	}
	return 0;
}

# missed(statement): what it should have given and did not, '' if all is well.
sub missed
{
	my ($statement) = @_;
	my ($state, $problem, @rows) = (@$statement{qw(state problem)}, @{ $statement->{rows} });
	my @table = map { [ map { s/^\s+|\s+$//gr } split /\|/, $_, -1 ] } grep { /\|/ && !/^ERROR/ } @{ $statement->{says} };
	my ($failing) = grep { /^(ERROR|VE\d\d\d)\b/ } @{ $statement->{says} };

	if ($failing)
	{
		return "should fail: $failing" if $state eq '00000';
		foreach my $said (grep { /^(ERROR|DETAIL|HINT|VE\d\d\d)\b/ } @{ $statement->{says} })
		{
			foreach my $part (map { s/^\s+|[\s.]+$//gr } split /\.\.\.|: +|^ERROR\b|^DETAIL\b|^HINT\b/, $said)
			{
				return "\"$part\" is not in: $state $problem" if index("$state $problem", $part) < 0;
			}
		}
		return '';
	}
	return "fails: $state $problem" if $state ne '00000';
	return 'gives other rows: ' . join(' / ', @rows) =~ s/\x1f/ | /gr
	  if @table && join("\n", map { join "\x1f", @$_ } @table) ne join("\n", @rows);
	foreach my $said (@table ? () : @{ $statement->{says} })
	{
		return "gives rows, though it says: $said" if $said =~ /^no rows\b/ && @rows;
		return "gives no row, though it says: $said" if $said =~ /^a row\b/ && @rows != 1;
		next unless $said =~ /^(\{.*\}|\[.*\]|(?:[a-z]+, )?-?\d+|true|false)(?::? .*)?$/;
		$statement->{compared} = 1;
		return "does not give $1, but: " . join(' / ', @rows) =~ s/\x1f/ | /gr if !has_value($1, @rows);
	}
	return '';
}

# run_section(database, statements): fills in what each gave.
sub run_section
{
	my ($database, @statements) = @_;
	my $script = "\\set last_seen 0\n\\set cursor 0\n\\set settled 0\n\\pset footer off\n";

	foreach my $statement (@statements)
	{
		# A wait for news, of which there are none, shall end soon; one for a projection has what it waits for, however slow
		# the machine is.  Files are the test's.
		my $sql = $statement->{sql} =~ s/(wait\w*\([^;]*)'\d+ ?(?:min|s)'/$1'1s'/r =~
		  s/(es_wait_projection\([^;]*)'1s'/$1'$PostgreSQL::Test::Utils::timeout_default s'/r =~ s{'/tmp/}{'$folder/}r;
		$script .= "$sql\n\\echo '\x1e' :SQLSTATE\n\\warn '\x1e'\n";
	}
	my ($out, $err) = ('', '');
	$node->psql($database, Encode::encode('UTF-8', $script), stdout => \$out, stderr => \$err, on_error_stop => 0, extra_params => [ '-F', "\x1f" ]);
	my @given = split /\x1e /, Encode::decode('UTF-8', $out), -1;
	my @problems = split /\x1e\n?/, Encode::decode('UTF-8', $err), -1;
	foreach my $nth (0 .. $#statements)
	{
		my $statement = $statements[$nth];

		# what stands before its mark; the state before it is the first thing of the next
		my $rows = $nth ? $given[$nth] =~ s/^\w{5}\n?//r : $given[0];
		$statement->{rows} = [ split /\n/, $rows ];
		$statement->{state} = ($given[ $nth + 1 ] // '') =~ /^(\w{5})/ ? $1 : 'died';
		$statement->{problem} = $problems[$nth] // '';
	}
	return;
}

my ($database, $compared, %known) = (0, 0);
foreach my $file ('README.md', sort(glob('doc/*.md')))
{
	foreach my $section (sections($file))
	{
		my ($name, @blocks) = @$section;
		my $where = 'examples' . ++$database;

		$known{$name} = 1;
		foreach my $block (@blocks)
		{
			$block->{statements} = $block->{mark} ? [] : [ statements(@{ $block->{lines} }) ];
			like($block->{mark}, qr/^not run: \w/, "$file:$block->{line} says why it is not run") if $block->{mark};
		}
		new_store($node, $where);
		$node->safe_psql($where, $before{$name}) if $before{$name};
		run_section($where, map { @{ $_->{statements} } } @blocks);
		foreach my $block (grep { !$_->{mark} } @blocks)
		{
			my @missed = map { my $missed = missed($_); $missed ? "$_->{sql}$missed" : () } @{ $block->{statements} };
			ok(!@missed, "$file:$block->{line}") or diag Encode::encode('UTF-8', join("\n", @missed));
			$compared += grep { $_->{compared} } @{ $block->{statements} };
		}
		$node->safe_psql($where, q{SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()});
		$node->safe_psql('postgres', "DROP DATABASE $where WITH (FORCE)");
		$node->safe_psql('postgres', q{SELECT format('DROP ROLE %I', rolname) FROM pg_roles WHERE oid >= 16384} . " \\gexec\n");
	}
}
is(join(', ', grep { !$known{$_} } sort keys %before), '', 'each preparation is for a page that has examples');
cmp_ok($compared, '>', 20, 'values that the pages give are compared');

$node->stop;
unlink '/tmp/history.tsv';	# README writes it
done_testing();
