# esfeed needs no settings but libpq's: TLS with verify-full, SCRAM, service and
# password files, the environment; and it waits for servers that are away.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EsfeedTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $dir = PostgreSQL::Test::Utils::tempdir();
my $node = feed_node('main');
my ($status, $out, $err, $run);

plan skip_all => 'openssl is not installed' unless grep { -x "$_/openssl" } split /:/, $ENV{PATH};

sub openssl
{
	system_or_bail('openssl', @_);
}

# ---- certificates: two authorities, and a server's by the first
foreach my $ca (qw(ca stranger))
{
	openssl(qw(req -new -x509 -days 2 -nodes -newkey rsa:2048 -subj), "/CN=$ca", '-keyout', "$dir/$ca.key", '-out', "$dir/$ca.crt");
}
openssl(qw(req -new -nodes -newkey rsa:2048 -subj /CN=db.test -keyout), "$dir/server.key", '-out', "$dir/server.csr");
append_to_file("$dir/ext", "subjectAltName = DNS:db.test\n");
openssl(qw(x509 -req -days 2 -CAcreateserial -in), "$dir/server.csr", '-CA', "$dir/ca.crt", '-CAkey', "$dir/ca.key", '-extfile', "$dir/ext", '-out', "$dir/server.crt");
chmod 0600, "$dir/server.key" or die;

$node->safe_psql('postgres', q{SET password_encryption = 'scram-sha-256'; CREATE ROLE feeder SUPERUSER REPLICATION LOGIN PASSWORD 'se cret'});
$node->append_conf('postgresql.conf', "listen_addresses = '127.0.0.1'\nssl = on\nssl_cert_file = '$dir/server.crt'\nssl_key_file = '$dir/server.key'\n");
unlink($node->data_dir . '/pg_hba.conf');
$node->append_conf('pg_hba.conf', "hostssl all feeder 127.0.0.1/32 scram-sha-256\nlocal all all trust\n");
$node->restart;
append($node, 'a-1', 'A', 'B');
my $port = $node->port;
my @run = ('--feed', 'tls', '--create', '--until-caught-up', '--to', "file:$dir/tls");

# ---- a connection string
my $conninfo = "host=db.test hostaddr=127.0.0.1 port=$port dbname=postgres user=feeder sslmode=verify-full sslrootcert=$dir/ca.crt";
is((esfeed("$conninfo password='se cret'", @run))[0], 0, 'verify-full and SCRAM');
is_complete([ lines("$dir/tls") ], [ stored_messages($node) ], 'deliver');
($status, $out, $err) = esfeed("$conninfo password=wrong", @run);
is($status, 2, 'a wrong password');
like($err, qr/password authentication failed/, 'is told');
($status, $out, $err) = esfeed("$conninfo password='se cret' sslrootcert=$dir/stranger.crt", @run);
is($status, 2, 'a server that the authority does not know');
like($err, qr/certificate verify failed/, 'is told');
is((esfeed("$conninfo password='se cret' host=other.test", @run))[0], 2, 'a server of another name');
is((esfeed("$conninfo password='se cret' sslmode=disable", @run))[0], 2, 'no TLS where the server wants it');

# ---- a service file and a password file
{
	append_to_file("$dir/services", "[feeds]\nhost=db.test\nhostaddr=127.0.0.1\nport=$port\ndbname=postgres\nuser=feeder\nsslmode=verify-full\nsslrootcert=$dir/ca.crt\n");
	append_to_file("$dir/passwords", "db.test:$port:postgres:feeder:se cret\n");
	chmod 0600, "$dir/passwords" or die;
	local $ENV{PGSERVICEFILE} = "$dir/services";
	local $ENV{PGPASSFILE} = "$dir/passwords";
	append($node, 'a-1', 'C');
	is((esfeed('service=feeds', @run))[0], 0, 'a service');
	append($node, 'a-1', 'D');
	# from here on psql would take it, too
	local $ENV{PGSERVICE} = 'feeds';
	is((esfeed(undef, @run))[0], 0, 'a service from the environment');
}
is_complete([ lines("$dir/tls") ], [ stored_messages($node) ], 'deliver');

# ---- the environment, and a URI
{
	local ($ENV{PGHOST}, $ENV{PGPORT}, $ENV{PGDATABASE}) = ($node->host, $port, 'postgres');
	append($node, 'a-1', 'E');
	is((esfeed(undef, @run))[0], 0, 'PGHOST, PGPORT, PGDATABASE');
	is((esfeed('postgres', @run))[0], 0, 'a database name');
	(my $host = $node->host) =~ s{/}{%2F}g;
	is((esfeed("postgresql://$host:$port/postgres?application_name=mine", @run))[0], 0, 'a URI');
	is_complete([ lines("$dir/tls") ], [ stored_messages($node) ], 'deliver');
}

# ---- servers that are away
{
	$run = start_esfeed($node, '--feed', 'away', '--create', '--to', "file:$dir/away");
	ok(wait_for_line($run->{err}, 'streaming'), 'it streams');
	$node->stop('fast');
	ok(wait_for_line($run->{err}, 'could not connect'), 'the server is away, it tries again');
	$node->start;
	append($node, 'a-1', 'Back');
	ok(wait_for_line("$dir/away", 'Back'), 'it goes on when the server is back');
	is(stop_esfeed($run), 0, 'it ends');
	$node->stop;
	$run = start_esfeed($node, '--feed', 'away', '--to', "file:$dir/away");
	ok(wait_for_line($run->{err}, 'could not connect'), 'started before the server');
	$node->start;
	append($node, 'a-1', 'Late');
	ok(wait_for_line("$dir/away", 'Late'), 'it waits for a while');
	is(stop_esfeed($run), 0, 'it ends');
	is_complete([ lines("$dir/away") ], [ stored_messages($node) ], 'and every event was delivered once');
	$node->stop;
	($status, $out, $err) = esfeed($node, '--feed', 'away', '--to', "file:$dir/away");
	is($status, 2, 'but not for ever');
}

done_testing();
