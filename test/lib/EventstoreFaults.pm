# Faults of the machine for a server that is started by this: a full disk, one that does not answer, WAL that stays in
# memory, memory that runs out, a clock that is set, waits without an end (faults.c).  They come and go while the server runs.
package EventstoreFaults;

use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Utils;

# prepare(node): the node's next starts are under faults, none at first.  It is stopped and started.
sub prepare
{
	my ($class, $node) = @_;
	my $dir = PostgreSQL::Test::Utils::tempdir();
	my $self = bless { node => $node, file => "$dir/faults", library => "$dir/faults.so" }, $class;
	my ($out, $err) = ('', '');

	IPC::Run::run([ $ENV{CC} // 'cc', '-O2', '-shared', '-fPIC', '-o', $self->{library}, 'test/lib/faults.c', '-ldl' ], '>', \$out, '2>', \$err)
	  or die "faults.c: $err";
	$self->set;
	$node->stop;
	$self->start;
	return $self;
}

# start(): starts the node; psql and whatever else is run by the test is not under faults.  Whether it could.
sub start
{
	my ($self, %options) = @_;

	local $ENV{LD_PRELOAD} = $self->{library};
	local $ENV{FAULTS} = $self->{file};
	local $ENV{FAULTS_DISK} = $self->{node}->data_dir;
	return $self->{node}->start(%options);
}

# set(full => 1, memory => each n-th large allocation, clock => seconds, slow => 1, held => 1, endless => 1): what is not named is in order.
sub set
{
	my ($self, %faults) = @_;

	# in place: the server has the file mapped
	open my $out, -e $self->{file} ? '+<' : '>', $self->{file} or die $!;
	syswrite $out, pack('q6', map { $faults{$_} // 0 } qw(full memory clock slow held endless)) or die $!;
	close $out;
}

1;
