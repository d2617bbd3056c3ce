# A short soak run (test/soak): a store in use, and everything that can happen to it, at random.  SOAK_HOURS makes it
# longer, ES_SEED repeats settings and faults.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreScene;
use EventstoreTest;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

my $seed = seed();
my $dir = PostgreSQL::Test::Utils::tempdir_short();
my ($built, $err) = ('', '');

IPC::Run::run([ $ENV{CC} // 'cc', '-O2', '-shared', '-fPIC', '-o', "$dir/faults.so", 'test/lib/faults.c', '-ldl' ], '>', \$built, '2>', \$err) or die "faults.c: $err";
my ($settings) = run_command([ 'postgres', '--describe-config' ]);
my @allow_list = $settings =~ /^output_plugin_libraries\t/m ? ('--allow-list') : ();
my ($out, $errors) = ('', '');
my $ok = IPC::Run::run([ EventstoreScene::python(), 'test/lib/soak.py', $ENV{SOAK_HOURS} // 0.004, $seed, '--work', $dir, '--library', "$dir/faults.so", @allow_list ],
	'<', '/dev/null', '>', \$out, '2>', \$errors);
note $out;
note $errors;
is(join("\n", $out =~ /^finding: (.*)/mg), '', 'nothing lost, skipped or doubled');
ok($ok, 'it ends well');
cmp_ok(($out =~ /\| acknowledged events \| ([\d,]+)/)[0] =~ tr/,//dr, '>', 0, 'events were acknowledged');
cmp_ok(($out =~ /\| kills and crashes \| ([\d,]+)/)[0] =~ tr/,//dr, '>', 0, 'and processes killed');
done_testing();
