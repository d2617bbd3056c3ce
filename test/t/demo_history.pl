# The demo's second act on repositories that are harder than most: the replayed
# tree is git's tree, whatever the names, modes and shape of the history.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

$ENV{HOME} = $ENV{XDG_CONFIG_HOME} = PostgreSQL::Test::Utils::tempdir;
$ENV{GIT_CONFIG_NOSYSTEM} = 1;
$ENV{"GIT_${_}_NAME"} = 'tester', $ENV{"GIT_${_}_EMAIL"} = 'tester@localhost' for qw(AUTHOR COMMITTER);

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->start;

# git(repository, arguments...): its output
sub git
{
	my ($repo, @arguments) = @_;
	my ($out, $err) = ('', '');
	IPC::Run::run([ 'git', '-C', $repo, @arguments ], '>', \$out, '2>', \$err)
	  or die "git @arguments: $err";
	chomp $out;
	return $out;
}

sub new_repository
{
	my $repo = PostgreSQL::Test::Utils::tempdir;
	git($repo, qw(init -q -b main));
	return $repo;
}

sub write_file
{
	my ($path, $text) = @_;
	open my $out, '>', $path or die "$path: $!";
	print $out $text;
	close $out;
}

# commit(repository, seconds, arguments...): all there is, at that time
my $commits = 0;

sub commit
{
	my ($repo, $time, @arguments) = @_;
	local $ENV{GIT_COMMITTER_DATE} = local $ENV{GIT_AUTHOR_DATE} = "$time +0000";
	git($repo, qw(add -A));
	git($repo, qw(commit -q --allow-empty -m), 'commit ' . ++$commits, @arguments);
}

# Runs demo/history on a repository in a database of its own.
my $databases = 0;

sub history
{
	my ($repo) = @_;
	my $database = 'history' . ++$databases;
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database, 'CREATE EXTENSION eventstore');
	local %ENV = (%ENV, PGHOST => $node->host, PGPORT => $node->port, PGDATABASE => $database);
	my ($out, $err) = ('', '');
	my $ok = IPC::Run::run([ 'demo/history', $repo, PostgreSQL::Test::Utils::tempdir ], '>', \$out, '2>', \$err);
	diag("$out$err") if !$ok;
	return ($ok, $out, $database);
}

# Awkward: names, modes, types, merges, clocks that stand still or go back.
my $repo = new_repository();
my $deep = join '/', map { ('long' x 20) . $_ } 1 .. 12;
mkdir "$repo/dir";
write_file("$repo/plain", "1\n");
write_file("$repo/dir/quote\"and\\backslash", "1\n");
write_file("$repo/tab\tnewline\nreturn\r", "1\n");
write_file("$repo/100%", "1\n");
write_file("$repo/100%25", "2\n");
write_file("$repo/latin-\xE9", "1\n");
write_file("$repo/utf8-\xC3\xA9", "1\n");
write_file("$repo/surrogate-\xED\xA0\x80", "1\n");
write_file("$repo/\$dollar \x7F\x01", "1\n");
write_file("$repo/-dash", "1\n");
my $folder = $repo;
mkdir($folder .= "/$_") for split '/', $deep;
write_file("$folder/end", "1\n");
write_file("$folder/other", "2\n");
commit($repo, 1_700_000_000);

write_file("$repo/plain", "2\n");
chmod 0755, "$repo/100%";
commit($repo, 1_700_000_000);

git($repo, qw(mv plain renamed));
unlink "$repo/-dash";
symlink 'renamed', "$repo/-dash";
commit($repo, 1_600_000_000);

git($repo, qw(checkout -q -b side));
write_file("$repo/from-side", "1\n");
commit($repo, 1_700_000_100);
git($repo, qw(checkout -q main));
write_file("$repo/from-main", "1\n");
commit($repo, 1_700_000_100);
{
	local $ENV{GIT_COMMITTER_DATE} = '1700000100 +0000';
	git($repo, qw(merge -q --no-ff -m merge side));
}
my $head = git($repo, qw(rev-parse HEAD));
git($repo, qw(update-index --add --cacheinfo), "160000,$head,module");
{
	local $ENV{GIT_COMMITTER_DATE} = '4000000000 +0000';
	git($repo, qw(commit -q -m submodule));
}
git($repo, qw(commit -q --allow-empty -m empty));
git($repo, qw(rm -q --cached module));
unlink "$folder/other";
unlink "$repo/utf8-\xC3\xA9";
commit($repo, 1_700_000_200);

my ($ok, $out, $database) = history($repo);
ok($ok, 'a repository with awkward names, modes, merges and clocks replays to its trees');
is(() = $out =~ / 0 differences/g, 2, 'HEAD and a commit in the middle are compared');

# Not only the one in the middle: each commit on the first-parent line.
my @line = split /\n/, git($repo, qw(rev-list --first-parent --reverse HEAD));
my $times = $node->safe_psql($database,
	q{SELECT count(DISTINCT recorded_at) FROM es_events});
cmp_ok($times, '<=', scalar @line, 'each commit has one time');
is($node->safe_psql($database, q{SELECT count(*) FROM es_events WHERE octet_length(stream) > 512}),
	'0', 'long paths are cut to what a stream name may have');
is($node->safe_psql($database, q{SELECT count(DISTINCT data ->> 'path') FROM es_events WHERE data ? 'path'}),
	'2', 'and their events carry the whole path');
is($node->safe_psql($database, q{SELECT string_agg(type, ' ' ORDER BY version) FROM es_read('file--dash')}),
	'FileAdded FileModified', 'a change of type is a modification');
is($node->safe_psql($database, q{SELECT data ->> 'mode' FROM es_read('file-module', 1, 1)}),
	'160000', 'a submodule is a file of mode 160000');
is($node->safe_psql($database, q{SELECT type FROM es_read('file-latin-%E9')}),
	'FileAdded', 'bytes that are not UTF-8 are written %XX');

# Shapes that have little or nothing to load.
($ok, $out) = history(new_repository());
ok($ok && $out =~ /no commit yet/, 'a repository without commits is said to be so');

($ok, $out) = history(PostgreSQL::Test::Utils::tempdir);
ok($ok && $out =~ /not a git repository/, 'a folder without repository is said to be so');

my $single = new_repository();
write_file("$single/one", "1\n");
commit($single, 1_700_000_000);
($ok, $out) = history($single);
ok($ok && $out =~ /only one commit/, 'a repository with one commit is compared at HEAD');

my $shallow = PostgreSQL::Test::Utils::tempdir . '/clone';
git($repo, qw(clone -q --depth 3), "file://$repo", $shallow);
($ok, $out) = history($shallow);
ok($ok && $out =~ /shallow clone/ && $out =~ / 0 differences/, 'a shallow clone is loaded from where it begins');

# A store that does not have git's tree is told.
$node->safe_psql($database, 'DROP TABLE git_tree, replayed');
{
	local %ENV = (%ENV, PGHOST => $node->host, PGPORT => $node->port, PGDATABASE => $database);
	my ($err, $said) = ('', '');
	$node->safe_psql($database, 'DROP FUNCTION file_written, file_deleted');
	$node->safe_psql($database, "SELECT es_append('file-intruder', 'FileAdded', '{\"blob\": \"0\", \"mode\": \"100644\"}')");
	my $passed = IPC::Run::run([ 'demo/history', $single, PostgreSQL::Test::Utils::tempdir ], '>', \$said, '2>', \$err);
	ok(!$passed && $said =~ /only replayed.*intruder/s, 'differences are listed and fail');
}

$node->stop;
done_testing();
