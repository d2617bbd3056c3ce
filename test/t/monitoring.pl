# What monitoring/ has, against the real exporter and the real Prometheus: every row of
# es_metrics() arrives under its name, every expression of the dashboard can be asked,
# alerts fire, and each has its chapter.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use HTTP::Tiny;
use IPC::Run;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

# Whoever ends this ends what it has started, too.
$SIG{TERM} = $SIG{INT} = sub { exit 1 };

my $folder = "$FindBin::RealBin/../../monitoring";
my $http = HTTP::Tiny->new(timeout => 30);
my $base = PostgreSQL::Test::Utils::tempdir();
my %port = map { $_ => PostgreSQL::Test::Cluster::get_free_port() } qw(exporter prometheus);

# output_of(command...): what it prints; dies if it fails
sub output_of
{
	my ($out, $err);

	IPC::Run::run([@_], '<', \undef, '>', \$out, '2>', \$err) or die "@_: $err";
	return $out;
}

# ask(path, query): what Prometheus' API says
sub ask
{
	my ($path, $query) = @_;
	my $parameters = defined $query ? '?' . $http->www_form_urlencode({ query => $query }) : '';
	my $response = $http->get("http://127.0.0.1:$port{prometheus}/api/v1/$path$parameters");

	return eval { decode_json($response->{content}) } // { status => 'none', error => "$response->{status} $response->{content}" };
}

# value(query): the one value it has; undef if it has none
sub value
{
	my $answer = ask('query', @_);

	return $answer->{status} eq 'success' && @{ $answer->{data}{result} } == 1 ? $answer->{data}{result}[0]{value}[1] : undef;
}

# wait_for_value(query, value): waits until that is what Prometheus has
sub wait_for_value
{
	my ($query, $wanted) = @_;

	return wait_until("$query to be $wanted", sub { my $is = value($query); defined $is && $is == $wanted });
}

# firing(alert): the alerts of this name that fire
sub firing
{
	my ($name) = @_;

	return grep { $_->{labels}{alertname} eq $name && $_->{state} eq 'firing' } @{ ask('alerts')->{data}{alerts} // [] };
}

# ---- a server with one of everything, watched ----

my $node = new_node('main', streaming => 'logical', conf => "shared_preload_libraries = 'eventstore'\ntrack_functions = 'all'\n");
$node->safe_psql('postgres', 'CREATE DATABASE shop');
$node->safe_psql('shop', 'CREATE EXTENSION eventstore');
$node->command_ok([ 'psql', '-Xq', '-d', $node->connstr('shop'), '-v', 'ON_ERROR_STOP=1', '-f', "$folder/sample.sql" ], 'the sample of a store can be made');
$node->command_ok([ 'psql', '-Xq', '-d', $node->connstr('postgres'), '-v', 'role=watcher', '-f', "$folder/role.sql" ], 'the role can be made') for 1 .. 2;
my $standby = start_standby($node);
$node->wait_for_catchup($standby, 'replay');

my @shop = ('-d', $node->connstr('shop'));
my @rules_test = ('promtool', 'test', 'rules', "$folder/alerts_test.yml");
my $rules_out = '';
my $rules_test = IPC::Run::start(\@rules_test, '<', \undef, '>&', \$rules_out);

# Alerts as they are, but with less patience.
my $rules = slurp_file("$folder/alerts.yml");
$rules =~ s/^( +for: ).*$/${1}1s/mg;
append_to_file("$base/alerts.yml", $rules);
my $config = slurp_file("$folder/prometheus.yml");
$config =~ s/_interval: 15s/_interval: 1s/g;
$config =~ s/localhost:9187/127.0.0.1:$port{exporter}/;
append_to_file("$base/prometheus.yml", $config);
mkdir "$base/exporter" or die $!;

$ENV{DATA_SOURCE_NAME} = 'user=watcher dbname=shop host=' . $node->host . ' port=' . $node->port . ' sslmode=disable';
start_process([ 'prometheus-postgres-exporter', "--extend.query-path=$folder/queries.yaml", "--web.listen-address=127.0.0.1:$port{exporter}" ],
	"$base/exporter/out", "$base/exporter/log");
delete $ENV{DATA_SOURCE_NAME};
start_process([ 'prometheus', "--config.file=$base/prometheus.yml", "--storage.tsdb.path=$base/tsdb", "--web.listen-address=127.0.0.1:$port{prometheus}" ],
	"$base/prometheus.out", "$base/prometheus.log");

# The exporter once more, for two databases.
new_store($node, 'second');
$port{both} = PostgreSQL::Test::Cluster::get_free_port();
$ENV{DATA_SOURCE_NAME} = 'user=watcher dbname=shop host=' . $node->host . ' port=' . $node->port;
start_process([ 'prometheus-postgres-exporter', "--extend.query-path=$folder/queries.yaml", "--web.listen-address=127.0.0.1:$port{both}",
	'--auto-discover-databases', '--include-databases=shop,second' ], "$base/both.out", "$base/both.log");
delete $ENV{DATA_SOURCE_NAME};

# ---- files that are made ----

# is_made(file, command...): it is what that prints
sub is_made
{
	my ($file, @command) = @_;
	my @is = split /\n/, slurp_file("$folder/$file");
	my @made = split /\n/, output_of(@command);
	my ($line) = grep { ($is[$_] // '') ne ($made[$_] // '') } 0 .. ($#is > $#made ? $#is : $#made);

	ok(!defined $line, "$file is what @{[$command[0] =~ m{([^/]+)$}]} makes") or diag('line ' . ($line + 1) . ":\n" . join("\n", map { $_->[$line] // 'the end' } \@is, \@made));
}

is_made('queries.yaml', "$folder/make-queries", @shop);
is_made('eventstore.json', "$folder/make-dashboard");

# ---- numbers ----

# page(): the lines of ours that the exporter shows
sub page
{
	return grep { /^(?:# TYPE )?eventstore_/ } split /\n/, $http->get("http://127.0.0.1:$port{exporter}/metrics")->{content};
}

ok(wait_for_value('eventstore_last_position', 101), 'Prometheus has the last position');
$node->safe_psql('shop', q{
	SELECT count(es_append('visit-' || n % 3, 'Seen')) FROM generate_series(1, 7) n;
	SELECT es_append_batch('visit-9', (SELECT jsonb_agg('{"type": "Seen"}'::jsonb) FROM generate_series(1, 50)));
	SELECT es_append('visit-10', 'Seen', event_id => '00000000-0000-4000-8000-000000000001') FROM generate_series(1, 3)});
sqlstates($node, 'shop', q{
	SELECT es_append('visit-9', 'Seen', expected_version => 3); SELECT es_append('visit-9', 'Seen', expected_version => 4);
	SELECT es_append('order-1', 'OrderPlaced', '{"total": 0}')}, on_error_stop => 0);
$node->safe_psql('shop', q{SELECT count(*) FROM es_poll('audit', 20)});
my ($bad) = rows($node, 'shop', q{SELECT partition || ', ' || position FROM es_poll('mail', 1)});
$node->safe_psql('shop', "SELECT es_nack('mail', $bad, 'no')");
my %truth = (
	'eventstore_last_position' => 159,
	'eventstore_settled_position' => 159,
	'eventstore_events_appended_total' => 159,
	'eventstore_append_retries_total' => 2,
	'eventstore_append_refusals_total{reason="wrong_expected_version"}' => 2,
	'eventstore_append_refusals_total{reason="schema_violation"}' => 1,
	'eventstore_subscription_parked_events{subscription="mail"}' => 1,
	'eventstore_subscription_lag_events{subscription="audit", partition="0"}' => 159,
	'eventstore_projection_lag_events{projection="orders"}' => 0,
	'eventstore_feed_lag_events{feed="search"} > bool 0' => 1,
	'eventstore_feed_lag_seconds{feed="search"} > bool 0' => 1,
	'eventstore_standby' => 0,
	'increase(eventstore_append_refusals_total{reason="wrong_expected_version"}[1m]) > bool 0' => 1);
ok(wait_for_value($_, $truth{$_}), "$_ is $truth{$_}") foreach sort keys %truth;

# Every row of the function, and nothing else of ours, has arrived.  Values that move by themselves are left out.
{
	my $moves = qr/_seconds$|_seconds_sum|lag_bytes|retained_bytes|replication|worker_failures|segment_bytes|settle_wait|retention_behind/;
	my $rows = sub {
		map { my $row = decode_json($_); my $labels = $row->{labels};
			$labels->{le} = $labels->{le} eq '+Inf' ? '+Inf' : $labels->{le} + 0 if exists $labels->{le};
			my $value = $row->{name} =~ $moves ? '' : $row->{value} + 0;
			"$row->{name} " . join(',', map { "$_=$labels->{$_}" } sort keys %$labels) . " $value" }
		  rows($node, 'shop', q{SELECT jsonb_build_object('name', name, 'labels', labels, 'value', value) FROM es_metrics()}) };
	my $series = sub {
		map { my ($labels, $value) = ({ %{ $_->{metric} } }, $_->{value}[1]); my $name = delete $labels->{__name__};
			die "database $labels->{datname}" if delete $labels->{datname} ne 'shop';
			delete @$labels{qw(instance job server)};
			$labels->{le} += 0 if exists $labels->{le} && $labels->{le} ne '+Inf';
			$value = $name =~ $moves ? '' : $value + 0;
			"$name " . join(',', map { "$_=$labels->{$_}" } sort keys %$labels) . " $value" }
		  @{ ask('query', '{__name__=~"eventstore_.*"}')->{data}{result} } };
	my ($told, $arrived);
	ok(wait_until('all series', sub { $told = join("\n", sort $rows->()); $arrived = join("\n", sort $series->()); $told eq $arrived }),
		'every row of es_metrics() is a series of its name, labels and value') or is($arrived, $told);
	cmp_ok(scalar(split /\n/, $told), '>', 250, 'and these are many');
}
{
	my %kind = map { split /\|/ } rows($node, 'shop', q{SELECT DISTINCT regexp_replace(name, CASE kind WHEN 'histogram' THEN '_(bucket|sum|count)$' ELSE 'never' END, ''), kind FROM es_metrics()});
	my %type = map { /^# TYPE (\S+) (\S+)$/ ? ($1 => $2) : () } page();
	is_deeply(\%type, \%kind, 'and of its kind');
	is(join("\n", grep { /NaN/ } page()), '', 'none is not a number');
}
{
	ok($node->poll_query_until('shop', q{SELECT sum(calls) > 3 FROM pg_stat_user_functions WHERE funcname = 'es_metrics'}), 'calls of es_metrics() are counted');
	my $calls = $node->safe_psql('shop', q{SELECT sum(calls) FROM pg_stat_user_functions WHERE funcname = 'es_metrics'});
	# once, and on a busy machine, where a scrape takes long, again; there are fifty queries
	cmp_ok($calls, '<=', 10 * value('count_over_time(up[1h])') + 10, 'a scrape does not call it once a query');
}

{
	my %last;
	ok(wait_until('both', sub { %last = $http->get("http://127.0.0.1:$port{both}/metrics")->{content} =~ /^eventstore_last_position\{datname="(\w+)".*\} (\d+)$/mg; keys %last == 2 }),
		'stores of two databases are told apart');
	is_deeply(\%last, { shop => 159, second => 0 }, 'each has its own');
}
foreach my $sql ('SELECT count(*) FROM es_read_all()', 'SELECT count(*) FROM es_events', q{SELECT es_append('a-1', 'A')}, 'SELECT FROM eventstore.events')
{
	my ($ret, $out, $err) = $node->psql('shop', $sql, extra_params => [ '-U', 'watcher' ]);
	ok($ret != 0 || $out eq '0', "the exporter's role sees and writes nothing: $sql") or diag $out;
}

# ---- the dashboard ----

{
	my $dashboard = decode_json(slurp_file("$folder/eventstore.json"));
	my %known = map { $_ => 1 } rows($node, 'shop', q{SELECT DISTINCT name FROM es_metrics()});
	my @targets = map { my $panel = $_; map { [ $panel->{title}, $_->{expr} ] } @{ $panel->{targets} // [] } } @{ $dashboard->{panels} };
	my $picture = slurp_file("$FindBin::RealBin/../../doc/dashboard.svg");
	cmp_ok(scalar(@targets), '>', 60, 'the dashboard asks for much');
	is(join(', ', grep { index($picture, ">$_<") < 0 } map { $_->{title} } @{ $dashboard->{panels} }), '', 'the picture has all of its panels');
	foreach my $target (@targets)
	{
		my ($title, $query) = @$target;
		is(join(' ', grep { !$known{$_} } $query =~ /\b(eventstore_\w+)/g), '', "$title: asks for metrics that there are");
		$query =~ s/\$__rate_interval/1m/g;
		$query =~ s/\$instance/127.0.0.1:$port{exporter}/g;
		$query =~ s/\$datname/shop/g;
		# a scrape that takes too long, on a busy machine, leaves nothing until the next one
		my $answer;
		ok(wait_until('an answer', sub { $answer = ask('query', $query); $answer->{status} ne 'success' || @{ $answer->{data}{result} } }) && $answer->{status} eq 'success',
			"$title: $query has an answer") or diag explain $answer;
	}
	is_deeply([ map { $_->{query} =~ /^label_values/ ? () : $_ } map { $_->{type} eq 'query' ? $_->{query} : () } @{ $dashboard->{templating}{list} } ], [], 'variables are values of labels');
}

# ---- alerts ----

# Each says how bad it is and what it is, and has its chapter; none fires yet.
my @alerts = grep { $_->{type} eq 'alerting' } map { @{ $_->{rules} } } @{ ask('rules')->{data}{groups} };
{
	my $operations = slurp_file("$FindBin::RealBin/../../doc/operations.md");
	my ($runbooks) = $operations =~ /^## Runbooks\n(.*?)(?=^## )/ms;
	my %chapter = map { $_ => 1 } $runbooks =~ /^### (\w+)$/mg;
	my %tested = map { $_ => 1 } slurp_file("$folder/alerts_test.yml") =~ /alertname="(\w+)"/g;

	cmp_ok(scalar(@alerts), '>', 25, 'there are alerts');
	foreach my $alert (@alerts)
	{
		my ($name, $annotations) = @$alert{qw(name annotations)};
		like($alert->{labels}{severity}, qr/^(?:info|warning|critical)$/, "$name has a severity");
		ok($annotations->{summary} && $annotations->{description}, "$name says what it is");
		is($annotations->{runbook_url}, 'doc/operations.md#' . lc $name, "$name leads to its chapter");
		ok(delete $chapter{$name}, "$name has a chapter");
		like($operations, qr/^\| \[$name\]\(#\L$name\E\) \| $alert->{labels}{severity} \|/m, "$name is in the table of alerts");
		ok($tested{$name}, "$name is tested");
		is($alert->{health}, 'ok', "$name can be asked for");
	}
	is(join(' ', sort keys %chapter), '', 'no chapter is of an alert that is not there');

	# what they tell one to run runs; what stands for a name is for the reader
	my @statements = grep { !/:'/ } map { split /;\n/ } $runbooks =~ /^```sql\n(.*?)^```/msg;
	cmp_ok(scalar(@statements), '>', 20, 'runbooks have statements');
	foreach my $statement (@statements)
	{
		my ($ret, $out, $err) = $node->psql('shop', "BEGIN; $statement; ROLLBACK");
		is($ret, 0, 'runs: ' . ($statement =~ s/\s+/ /gr)) or diag $err;
	}
}

# A handler that fails, events that are refused, a transaction left open.
$node->safe_psql('shop', q{
	CREATE FUNCTION fails(es_event) RETURNS void LANGUAGE plpgsql AS $$BEGIN RAISE 'out of order'; END$$;
	SELECT es_create_handler_projection('broken', 'fails(es_event)', 'async', '{order}')});
sqlstates($node, 'shop', q{SELECT es_append('order-1', 'OrderPlaced', '{"total": 0}');} x 9, on_error_stop => 0);
{
	my ($alert, @more);
	ok(wait_until('the alert', sub { ($alert, @more) = firing('EventstoreProjectionFailed') }), 'a projection that fails is told');
	is(scalar(@more), 0, 'and no other one');
	is($alert->{labels}{projection}, 'broken', 'it is the one that fails');
	is($alert->{annotations}{summary}, "the projection broken of shop on 127.0.0.1:$port{exporter} stands failed", 'and in words');
	ok(wait_until('the alert', sub { firing('EventstoreSchemaViolations') }), 'refused events are told');
	ok(wait_until('the alert', sub { firing('EventstoreSubscriptionParked') }), 'parked events are told');
	ok(wait_until('the alert', sub { firing('EventstoreFeedInactive') }), 'a feed that nobody consumes is told');
	$node->safe_psql('shop', q{SELECT es_drop_projection('broken')});
	ok(wait_until('no alert', sub { !firing('EventstoreProjectionFailed') }), 'once it is mended the alert ends');
	is(join("\n", grep { /<(?:no value|error)|%!/ } map { values %{ $_->{annotations} } } @{ ask('alerts')->{data}{alerts} }), '', 'alerts are told in whole sentences');
	is(join(' ', grep { firing($_) } qw(EventstoreExporterDown EventstoreServerDown EventstoreMetricsMissing EventstoreNotPreloaded EventstoreWorkerDown EventstoreWorkerFailing
		EventstoreKeyCommandFailing EventstoreSlotLost EventstoreReplicationLag EventstoreRetentionOverdue)), '', 'nothing fires that is not so');
}

# Not preloaded: what cannot be counted is not there, and that is told.
preload($node, 0);
$node->restart;
ok(wait_for_value('eventstore_preloaded', 0), 'a server that does not preload the library is seen');
ok(wait_until('the alert', sub { firing('EventstoreNotPreloaded') }), 'and told');
is(join("\n", grep { /_total|_bucket|NaN/ } page()), '', 'counters are not there, rather than not numbers');
ok(wait_for_value('eventstore_last_position', 159), 'gauges are');

# The exporter tries again for a while before it says so, for longer than Prometheus waits here.
$node->stop('immediate');
ok(wait_until('the exporter', sub { $http->get("http://127.0.0.1:$port{exporter}/metrics")->{content} =~ /^pg_up 0$/m }), 'the exporter tells that the server is down');
ok(wait_until('the alert', sub { firing('EventstoreServerDown') || firing('EventstoreExporterDown') }), 'and that is told');

# ---- rules ----

ok($rules_test->finish, 'promtool test rules') or diag $rules_out;
like(output_of('promtool', 'check', 'rules', "$folder/alerts.yml"), qr/SUCCESS/, 'promtool check rules');
like(output_of('promtool', 'check', 'config', "$base/prometheus.yml"), qr/SUCCESS/, 'promtool check config');

done_testing();
