# Access over TLS by certificates, as the manual's chapter has it: who has the right certificate and
# the right password gets in, and so do esfeed and a pool; all else is refused.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EsfeedTest;
use EventstoreTest;
use List::Util qw(first);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

plan skip_all => 'openssl is not installed' unless first { -x "$_/openssl" } split /:/, $ENV{PATH};

my $dir = PostgreSQL::Test::Utils::tempdir_short();
my $node = feed_node('main');

plan skip_all => 'the server has no SSL' if $node->safe_psql('postgres', q{SELECT setting FROM pg_settings WHERE name = 'ssl_library'}) eq '';

# ---- certificates ----

my @kind = qw(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1);

sub openssl { system_or_bail('openssl', @_); return }

# make_authority(name): one that signs
sub make_authority
{
	my ($name) = @_;

	openssl(qw(req -new -x509 -days 30 -nodes), @kind, '-subj', "/CN=$name", '-keyout', "$dir/$name.key", '-out', "$dir/$name.crt");
	append_to_file("$dir/$name.index", '');
	append_to_file("$dir/$name.conf", <<"END");
[ca]
default_ca = $name
[$name]
database = $dir/$name.index
new_certs_dir = $dir
certificate = $dir/$name.crt
private_key = $dir/$name.key
rand_serial = yes
default_md = sha256
default_days = 30
default_crl_days = 30
unique_subject = no
policy = names
[names]
commonName = supplied
END
	return;
}

# make_certificate(file, name, authority, options): a key, and a certificate that it belongs to that name
sub make_certificate
{
	my ($file, $name, $authority, @options) = @_;

	openssl(qw(req -new -nodes), @kind, '-subj', "/CN=$name", '-keyout', "$dir/$file.key", '-out', "$dir/$file.csr");
	openssl('ca', '-batch', '-notext', '-config', "$dir/$authority.conf", '-in', "$dir/$file.csr", '-out', "$dir/$file.crt", @options);
	chmod 0600, "$dir/$file.key" or die;
	return;
}

append_to_file("$dir/names", "subjectAltName = DNS:db.test, IP:127.0.0.1\n");
make_authority($_) foreach qw(servers clients strangers);
make_certificate('server', 'db.test', 'servers', '-extfile', "$dir/names");
make_certificate($_, $_, 'clients') foreach qw(shop audit feeder nightly pool);
make_certificate('strange', 'shop', 'strangers');
make_certificate('expired', 'shop', 'clients', qw(-startdate 20200101000000Z -enddate 20200201000000Z));
make_certificate('lost', 'shop', 'clients');
openssl('ca', '-config', "$dir/clients.conf", '-gencrl', '-out', "$dir/clients.crl");

# ---- the server ----

my $superuser = $node->safe_psql('postgres', 'SELECT current_user');

# let_in(lines): pg_hba.conf, in which the first line that fits counts
sub let_in
{
	my ($lines) = @_;

	unlink($node->data_dir . '/pg_hba.conf');
	$node->append_conf('pg_hba.conf', "local all $superuser trust\n${lines}host all all all reject\n");
	return;
}

# reload(setting, value): the server has it, for who connects from now on
sub reload
{
	my ($setting, $value) = @_;

	$node->append_conf('postgresql.conf', "$setting = '$value'\n");
	$node->reload;
	return $node->poll_query_until('postgres', "SELECT current_setting('$setting') = '$value'");
}

my $by_database = <<'END';
hostssl postgres +people 127.0.0.1/32 scram-sha-256 clientcert=verify-full
hostssl postgres feeder 127.0.0.1/32 scram-sha-256 clientcert=verify-full
hostssl postgres +programs 127.0.0.1/32 cert map=programs
END

$node->safe_psql('postgres', <<'END');
SET password_encryption = 'scram-sha-256';
CREATE ROLE people; CREATE ROLE programs;
CREATE ROLE shop LOGIN PASSWORD 'shop secret' IN ROLE people;
CREATE ROLE audit LOGIN PASSWORD 'audit secret' IN ROLE people;
CREATE ROLE feeder LOGIN REPLICATION PASSWORD 'feeder secret';
CREATE ROLE billing LOGIN IN ROLE programs;
CREATE ROLE reports LOGIN IN ROLE programs;
SELECT es_grant('shop', 'append', 'shop'), es_grant('audit', 'append', 'audit'), es_grant('feeder', 'read');
END
$node->append_conf('postgresql.conf', <<"END");
listen_addresses = '127.0.0.1'
ssl = on
ssl_cert_file = '$dir/server.crt'
ssl_key_file = '$dir/server.key'
ssl_ca_file = '$dir/clients.crt'
ssl_crl_file = '$dir/clients.crl'
ssl_min_protocol_version = 'TLSv1.2'
password_encryption = 'scram-sha-256'
END
let_in($by_database);
# who has one of these certificates may be one of these roles
$node->append_conf('pg_ident.conf', "programs nightly billing\nprograms pool billing\nprograms pool reports\n");
$node->restart;

# ---- clients ----

my $password = { shop => 'shop secret', audit => 'audit secret', feeder => 'feeder secret' };

# conninfo(role, certificate, more): how a role connects
sub conninfo
{
	my ($role, $certificate, $more) = @_;
	my $known = $password->{$role} ? " password='$password->{$role}'" : '';
	my $shown = $certificate ? "sslcert=$dir/$certificate.crt sslkey=$dir/$certificate.key" : "sslcert=$dir/none sslkey=$dir/none";

	return "host=db.test hostaddr=127.0.0.1 port=" . $node->port . " dbname=postgres user=$role sslmode=verify-full sslrootcert=$dir/servers.crt $shown$known " . ($more // '');
}

# run_as(conninfo, sql): exit status, output, errors
sub run_as
{
	my ($conninfo, $sql) = @_;
	my ($out, $err) = ('', '');

	IPC::Run::run([ $node->installed_command('psql'), '-XAtqw', '-d', $conninfo, '-c', $sql ], '<', '/dev/null', '>', \$out, '2>', \$err);
	chomp $out;
	return ($? >> 8, $out, $err);
}

# refused(conninfo, pattern, name): it cannot connect, for what the client or the server's log says
sub refused
{
	my ($conninfo, $pattern, $name) = @_;
	my $offset = -s $node->logfile;
	my ($status, $out, $err) = run_as($conninfo, q{SELECT es_append('shop-1', 'Never')});

	is($status, 2, "$name: refused");
	ok(wait_until("$pattern", sub { ($err . substr(slurp_file($node->logfile), $offset)) =~ $pattern }), "$name: why") or diag $err;
	return;
}

# ---- who gets in ----

my $session = q{SELECT concat_ws(' ', session_user, s.ssl, s.client_dn) FROM pg_stat_ssl s WHERE pid = pg_backend_pid()};

foreach my $role (qw(shop audit))
{
	is((run_as(conninfo($role, $role), "SELECT es_append('$role-1', 'Seen'); $session"))[1], "1\n$role t /CN=$role", "$role, by certificate and password");
}
is((run_as(conninfo('shop', 'shop', 'channel_binding=require'), q{SELECT es_append('shop-1', 'Bound')}))[1], '2', 'and with channel binding');
is((run_as(conninfo('billing', 'nightly'), $session))[1], 'billing t /CN=nightly', 'a program, by a certificate that the map knows');

# ---- who does not ----

refused(conninfo('shop', 'shop', 'sslmode=disable'), qr/pg_hba.conf rejects connection.*no encryption/, 'without TLS');
refused(conninfo('shop', undef), qr/requires a valid client certificate/, 'no certificate');
refused(conninfo('shop', 'strange'), qr/unknown ca/, 'a certificate of the same name by another authority');
refused(conninfo('shop', 'expired'), qr/certificate (has )?expired/, 'an expired certificate');
refused(conninfo('shop', 'audit'), qr/certificate validation \(clientcert=verify-full\) failed for user "shop": CN mismatch/, "another role's certificate");
refused(conninfo('shop', 'shop', "password='audit secret'"), qr/password authentication failed for user "shop"/, 'the right certificate with a wrong password');
refused(conninfo('shop', 'shop', "password=''"), qr/no password supplied/, 'the right certificate without a password');
refused(conninfo('reports', 'nightly'), qr/certificate authentication failed for user "reports"/, 'a certificate that the map has for another role');
refused(conninfo('billing', 'shop'), qr/certificate authentication failed for user "billing"/, 'a certificate that the map does not know');
refused(conninfo($superuser, 'shop'), qr/pg_hba.conf rejects connection/, 'a superuser from elsewhere');
refused(conninfo('shop', 'shop', "sslrootcert=$dir/strangers.crt"), qr/certificate verify failed/, 'a server that the client does not know');
refused(conninfo('shop', 'shop', 'host=other.test'), qr/does not match host name "other.test"/, 'a server of another name');
refused('host=' . $node->host . ' port=' . $node->port . ' dbname=postgres user=shop', qr/no pg_hba.conf entry/, 'over the socket');
is($node->safe_psql('postgres', q{SELECT count(*) FROM es_events WHERE type = 'Never'}), '0', 'none of them has appended');

# ---- a certificate that is lost ----

is((run_as(conninfo('shop', 'lost'), 'SELECT 1'))[1], '1', 'a certificate counts');
openssl('ca', '-config', "$dir/clients.conf", '-revoke', "$dir/lost.crt");
openssl('ca', '-config', "$dir/clients.conf", '-gencrl', '-out', "$dir/clients.crl");
$node->reload;
ok(wait_until('the list', sub { (run_as(conninfo('shop', 'lost'), 'SELECT 1'))[0] == 2 }), 'until it is on the list of those revoked');
refused(conninfo('shop', 'lost'), qr/certificate revoked/, 'a revoked certificate');
is((run_as(conninfo('shop', 'shop'), 'SELECT 1'))[1], '1', 'others still count');

# ---- esfeed ----

my @feed = ('--feed', 'tls', '--create', '--until-caught-up', '--to', "file:$dir/tls");

# esfeed_refused(conninfo, pattern, name)
sub esfeed_refused
{
	my ($conninfo, $pattern, $name) = @_;
	my ($status, $out, $err) = esfeed($conninfo, @feed);

	is($status, 2, "esfeed, $name: refused");
	like($err, $pattern, "esfeed, $name: why");
	return;
}

is((esfeed(conninfo('feeder', 'feeder'), @feed))[0], 0, 'esfeed, by certificate and password');
is_complete([ lines("$dir/tls") ], [ stored_messages($node) ], 'gets the events');
esfeed_refused(conninfo('feeder', 'feeder', 'sslmode=disable'), qr/no encryption/, 'without TLS');
esfeed_refused(conninfo('feeder', undef), qr/requires a valid client certificate/, 'no certificate');
esfeed_refused(conninfo('feeder', 'shop'), qr/authentication failed for user "feeder"/, "another role's certificate");
esfeed_refused(conninfo('feeder', 'feeder', 'password=wrong'), qr/password authentication failed/, 'a wrong password');

# a connection for logical decoding is one to the database
let_in("hostssl replication feeder 127.0.0.1/32 scram-sha-256 clientcert=verify-full\n");
$node->restart;
esfeed_refused(conninfo('feeder', 'feeder'), qr/pg_hba.conf rejects connection/, 'let in for "replication" only');
let_in($by_database);
$node->restart;
append($node, 'shop-1', 'Later');
is((esfeed(conninfo('feeder', 'feeder'), @feed))[0], 0, 'esfeed goes on');
is_complete([ lines("$dir/tls") ], [ stored_messages($node) ], 'and has every event once');

# ---- versions of the protocol ----

my $version = 'SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()';

is((run_as(conninfo('shop', 'shop', 'ssl_max_protocol_version=TLSv1.2'), $version))[1], 'TLSv1.2', 'an older protocol');
ok(reload('ssl_min_protocol_version', 'TLSv1.3'), 'which the server may refuse');
refused(conninfo('shop', 'shop', 'ssl_max_protocol_version=TLSv1.2'), qr/protocol/, 'an older protocol');
is((run_as(conninfo('shop', 'shop'), $version))[1], 'TLSv1.3', 'the newest one');

# ---- a pool: certificates on both of its sides ----

my $bouncer = $> == 0 ? undef : first { -x } map { "$_/pgbouncer" } split(/:/, $ENV{PATH}), '/usr/sbin', '/usr/local/sbin';

SKIP:
{
	skip 'pgbouncer is not installed (tools/setup installs it)', 6 unless $bouncer;
	my $port = PostgreSQL::Test::Cluster::get_free_port();

	make_certificate('bouncer', 'pool.test', 'servers');
	append_to_file("$dir/users", qq{"billing" ""\n"reports" ""\n"shop" ""\n});
	make_certificate($_, $_, 'clients') foreach qw(billing reports);
	append_to_file("$dir/ini", <<"END");
[databases]
postgres = host=127.0.0.1 port=${\ $node->port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $port
unix_socket_dir =
logfile = $dir/pool.log
pool_mode = transaction
auth_type = cert
auth_file = $dir/users
client_tls_sslmode = verify-full
client_tls_ca_file = $dir/clients.crt
client_tls_cert_file = $dir/bouncer.crt
client_tls_key_file = $dir/bouncer.key
server_tls_sslmode = verify-full
server_tls_ca_file = $dir/servers.crt
server_tls_cert_file = $dir/pool.crt
server_tls_key_file = $dir/pool.key
END
	start_process([ $bouncer, "$dir/ini" ], "$dir/pool.out", "$dir/pool.err");
	my $through = "host=pool.test hostaddr=127.0.0.1 port=$port";
	ok(wait_until('the pool', sub { (run_as(conninfo('billing', 'billing', $through), 'SELECT 1'))[0] == 0 }), 'over a pool') or diag slurp_file("$dir/pool.log");
	is((run_as(conninfo($_, $_, $through), $session))[1], "$_ t /CN=pool", "$_, by a certificate, and the pool by one of its own") foreach qw(billing reports);
	is((run_as(conninfo('shop', 'shop', $through), 'SELECT 1'))[0], 2, 'whom the server does not let in by the pool');
	is((run_as(conninfo('billing', 'reports', $through), 'SELECT 1'))[0], 2, "another role's certificate");
	is((run_as(conninfo('billing', 'billing', "$through sslmode=disable"), 'SELECT 1'))[0], 2, 'without TLS');
}

done_testing();
