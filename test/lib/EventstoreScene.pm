# A scene: a store in use, with writers, followers, members of subscriptions, projections and a feed, for drills.
# Its programs are scene.py and esfeed; they connect again by themselves, wherever the server is.  What they were told
# is noted outside the server, and check() holds it against the log (scene_check.py has what is promised).
#
#	my $scene = EventstoreScene->start($node, pace => 50);
#	$scene->wait_for_appends(200);
#	... something breaks, and heals ...
#	$scene->wait_for_appends(200);
#	$scene->check('after it broke');
package EventstoreScene;

use strict;
use warnings;

use EventstoreTest;
use File::Copy qw(copy);
use IPC::Run;
use List::Util qw(first sum0);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

# The python that has the driver, which is not always the first one in PATH.
my $python = first { -x && IPC::Run::run([ $_, '-c', 'import psycopg2' ], '2>', '/dev/null') }
	'/usr/bin/python3', (map { "$_/python3" } split /:/, $ENV{PATH});

# python(): which one.
sub python { return $python // die 'no python3 with psycopg2 (make setup installs it)' }

# start(node, options): makes the store and starts the programs.
#	dsn			where, if it is not the node's database "postgres": a connection string, with several hosts maybe
#	writers		how many (3); each with "pace" operations a second (40), batches of "batch" events (10) in the
#				middle, and "mix", the kinds of operations with their weights (scene.py has them)
#	members		of the subscription that has partitions (2)
#	feed		0: none; or arguments of esfeed besides
#	feed_dsn	where esfeed connects, if that is another way
#	setup		0: the store is there already, made by another scene's start()
#	segment_size	(3000); 0: as it is
#	shards		scenes of shards, without writers, if the node is their router: scene_shards.py has how they are checked
sub start
{
	my ($class, $node, %options) = @_;
	my $dir = PostgreSQL::Test::Utils::tempdir();
	my $self = bless { node => $node, dir => $dir, programs => {}, seen => {}, %options }, $class;

	python();
	mkdir "$dir/log";
	$self->move_to($options{dsn} // $node->connstr('postgres') . ' user=' . getpwuid($>));
	$self->set_up unless $options{shards} || defined $options{setup} && !$options{setup};
	my $writers = $options{writers} // 3;
	foreach my $slot (1 .. $writers)
	{
		my @mix = (($options{mix} ? ('--mix', $options{mix}) : ()), ($options{shards} ? '--routed' : ()));
		$self->add("writer $slot", 'write', '--slot', $slot, '--seed', int(rand(2**31)), '--pace', $options{pace} // 40,
			'--batch', $options{batch} // 10, @mix);
	}
	if (my $shards = $options{shards})
	{
		# the scenes of the shards are part of this one
		symlink $shards->[$_]{dir}, "$dir/shard$_" or die $! foreach 0 .. $#$shards;
		$self->add_shards_follower('all', 200);
		return $self;
	}
	$self->add('follower', 'follow', '--name', 'all');
	$self->add('follower of orders', 'follow', '--name', 'some@order', '--category', 'order');
	$self->add("member $_", 'consume', '--subscription', 'everything', '--member', "m$_") foreach 1 .. ($options{members} // 2);
	$self->add('member of orders', 'consume', '--subscription', 'orders', '--member', 'm');
	$self->add('onlooker', 'look');
	$self->start_feed unless defined $options{feed} && !$options{feed};
	return $self;
}

# add_shards_follower(name, page): who follows all shards, so many events of each at a time.
sub add_shards_follower
{
	my ($self, $name, $page) = @_;

	$self->{commands}{$name} = [ $python, 'test/lib/scene_shards.py', $self->{dir}, 'follow', '--name', $name, '--page', $page ];
	$self->run_program($name);
}

# move_to(connection string): where programs connect from now on.
sub move_to
{
	my ($self, $dsn) = @_;

	open my $out, '>', "$self->{dir}/dsn.new" or die $!;
	print $out "$dsn\n";
	close $out;
	rename "$self->{dir}/dsn.new", "$self->{dir}/dsn" or die $!;
	$self->{dsn} = $dsn;
}

sub set_up
{
	my ($self) = @_;
	my ($out, $err) = ('', '');

	my $segment_size = $self->{segment_size} // 3000;
	my @size = $segment_size ? ('--segment-size', $segment_size) : ();
	IPC::Run::run([ $python, 'test/lib/scene.py', $self->{dir}, 'setup', @size ], '>', \$out, '2>', \$err)
	  or die "no scene: $err";
}

# add(name, command line of scene.py): starts a program.
sub add
{
	my ($self, $name, @command) = @_;

	$self->{commands}{$name} = [ $python, 'test/lib/scene.py', $self->{dir}, @command ];
	$self->run_program($name);
}

# start_feed: an esfeed that writes a file, exactly once; it makes its feed, anew if it is lost.
sub start_feed
{
	my ($self) = @_;

	$self->add('feed', 'feed', '--', '-q', '-d', $self->{feed_dsn} // $self->{dsn}, '--feed', 'scene', '--create', '--to', "file:$self->{dir}/feed",
		ref $self->{feed} ? @{ $self->{feed} } : ());
}

# restart_feed: an esfeed that connects to where programs connect by now.
sub restart_feed
{
	my ($self) = @_;

	$self->stop_programs('^feed$');
	$self->start_feed;
}

sub run_program
{
	my ($self, $name) = @_;
	my $file = "$self->{dir}/" . ($name =~ s/ /-/gr);

	$self->{programs}{$name} = start_process($self->{commands}{$name}, "$file.out", "$file.error");
}

# names(pattern): of the programs that run.
sub names
{
	my ($self, $pattern) = @_;

	return sort grep { !$pattern || /$pattern/ } keys %{ $self->{programs} };
}

# signal_program(name, signal): STOP and CONT, say.
sub signal_program
{
	my ($self, $name, $signal) = @_;

	$self->{programs}{$name}->signal($signal);
}

# kill_program(name): kill -9; another one takes its place.
sub kill_program
{
	my ($self, $name) = @_;

	$self->remove_program($name);
	$self->run_program($name);
}

# remove_program(name): kill -9; none takes its place.
sub remove_program
{
	my ($self, $name) = @_;
	my $program = delete $self->{programs}{$name};

	$program->signal('KILL');
	$program->finish;
}

# stop_programs(pattern): they end by themselves.
sub stop_programs
{
	my ($self, $pattern) = @_;
	my @names = $self->names($pattern);

	$self->{programs}{$_}->signal('TERM') foreach @names;
	foreach my $name (@names)
	{
		(delete $self->{programs}{$name})->finish;
		my $file = "$self->{dir}/" . ($name =~ s/ /-/gr) . '.error';
		note "$name: " . slurp_file($file) if -s $file;
	}
}

# appends(): how many operations were acknowledged so far.
sub appends
{
	my ($self) = @_;
	my $seen = $self->{seen};

	foreach my $file (glob "$self->{dir}/log/w-*.log")
	{
		my $known = $seen->{$file} //= { at => 0, count => 0 };
		open my $in, '<', $file or next;
		seek $in, $known->{at}, 0;
		while (my $line = <$in>)
		{
			last unless $line =~ /\n$/;
			$known->{at} += length $line;
			$known->{count}++ if $line =~ /^A/;
		}
	}
	return sum0(map { $_->{count} } values %$seen);
}

# wait_for_appends(count): until so many more were acknowledged; that they are is an assertion if it has a name.
sub wait_for_appends
{
	my ($self, $count, $name) = @_;
	my $goal = $self->appends + $count;
	my $done = wait_until("$count appends", sub { $self->appends >= $goal });

	ok($done, $name) if $name || !$done;
	return $done;
}

# run_checker(folder, options of check, patience => seconds): whether it ran, what it printed, its errors.
sub run_checker
{
	my ($dir, %options) = @_;
	my ($out, $err) = ('', '');
	my @program = -e "$dir/shard0" ? ('test/lib/scene_shards.py', $dir, 'check') : ('test/lib/scene_check.py', $dir);
	my @command = ($python, @program, '--patience', $options{patience} // $PostgreSQL::Test::Utils::timeout_default);

	push @command, '--lossy' if $options{lossy};
	push @command, '--promoted' if $options{promoted};
	push @command, '--early' if $options{early};
	push @command, '--allow', $options{allow} if $options{allow};
	my $ran = IPC::Run::run(\@command, '>', \$out, '2>', \$err);
	return ($ran, $out, $err);
}

# check(name, lossy => 0, promoted => 0, allow => SQLSTATEs): ends the writers, has the others catch up, and holds everything against the log.
# lossy: an asynchronous standby was promoted, so what was acknowledged may be lost; how much is returned, and told.
# promoted: a synchronous one was, so a feed may have been sent what was never acknowledged; early: and followers have read it.
# allow: errors that programs may have met, such as 53100.  The other programs end.
sub check
{
	my ($self, $name, %options) = @_;

	$self->stop_programs('^writer');
	my ($ran, $out, $err) = run_checker($self->{dir}, %options);
	note $out;
	$_->stop_programs foreach $self, @{ $self->{shards} // [] };
	is(join("\n", ($ran ? () : $err), $out =~ /^finding: (.*)/mg), '', "$name: nothing lost, skipped or doubled");
	my ($events) = $out =~ /^summary: (\d+) events/m;
	my ($acknowledged) = $out =~ /acknowledged events: (\d+)/;
	cmp_ok($acknowledged // 0, '>', 0, "$name: events were acknowledged");
	return ($out =~ /(?<!and )lost: (\d+)/)[0] // 0;
}

# changed(pattern, sub): a copy of the scene's notes in which the contents of the largest such file, $_, are changed; the
# sub gets the folder.
sub changed
{
	my ($self, $pattern, $change) = @_;
	my $to = PostgreSQL::Test::Utils::tempdir();

	mkdir "$to/log";
	copy("$self->{dir}/$_", "$to/$_") foreach 'dsn', (grep { -e "$self->{dir}/$_" } 'feed'), map { s{.*/log/}{log/}r } glob "$self->{dir}/log/*";
	symlink $_->{dir}, "$to/shard" . $_->{node}->name =~ s/\D//gr foreach @{ $self->{shards} // [] };
	my ($file) = sort { -s $b <=> -s $a } glob "$to/$pattern";
	local $_ = slurp_file($file);
	$change->($to);
	open my $out, '>:raw', $file or die $!;
	print $out $_;
	close $out;
	return $to;
}

# finds(what, folder, pattern): the checker has such a finding in a scene's folder.
sub finds
{
	my ($what, $to, $pattern) = @_;
	my ($ran, $out, $err) = run_checker($to, patience => 1);

	like($out, qr/^finding: .*$pattern/m, "$what is found") or diag "$out$err";
}

1;
