# What README and tutorial show is what happens: their SQL is run statement by
# statement, and what a comment behind a statement says is compared with what
# came out: a number or JSON is the result, ERROR (with a SQLSTATE) a failure.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(allows_streaming => 'logical');
$node->start;

# statements(file): pairs of statement and the comment behind it
sub statements
{
	my ($file) = @_;
	my @statements;
	my $text = slurp_file($file);
	while ($text =~ /^```sql\n(.*?)^```/msg)
	{
		my $block = $1;
		push @statements, [ $1, $2 // '' ] while $block =~ /\G(.*?);[ \t]*(?:--[ ]?([^\n]*))?(?:\n|\z)/sg;
	}
	return @statements;
}

# check(file, database)
sub check
{
	my ($file, $database) = @_;
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	for my $pair (statements($file))
	{
		my ($sql, $promise) = @$pair;
		(my $title = $sql) =~ s/\s+/ /g;
		$title = "$file: " . substr($title, 0, 90);
		my ($status, $out, $err) = $node->psql($database, $sql, extra_params => [ '-v', 'VERBOSITY=verbose' ]);
		if ($promise =~ /^(?:ERROR:?(?: (VE\d+))?|(VE\d+):)/)
		{
			my $state = $1 // $2 // 'VE';
			like($err, qr/ERROR:  $state/, $title);
			next;
		}
		is($err =~ /ERROR/ ? $err : '', '', $title);
		is($out, $1, "$title gives $1") if $promise =~ /^(\d+)$/;
		like($out, qr/\Q$promise\E$/, "$title gives $promise") if $promise =~ /^\{/;
	}
	$node->safe_psql($database, q{SELECT es_drop_feed(feed) FROM es_feeds});
}

check('README.md', 'readme');
check('doc/tutorial.md', 'tutorial');

$node->stop;
unlink '/tmp/history.tsv';	# README writes it
done_testing();
