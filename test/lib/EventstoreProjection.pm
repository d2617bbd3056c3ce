# What the TAP tests of projections share: a cluster whose database "store" has
# the extension.
package EventstoreProjection;

use strict;
use warnings;

use EventstoreTest;
use Exporter 'import';
use Test::More;

our @EXPORT = qw(use_store run error_of becomes catches_up);

my $node;

# use_store(node): where the others look, from now on
sub use_store { $node = $_[0]; return; }

# run(sql): in the store's database
sub run { return $node->safe_psql('store', join(' ', @_)); }

# error_of(sql): the SQLSTATE that it ends with
sub error_of { return sqlstates($node, 'store', $_[0]); }

# becomes(sql, name): true sooner or later
sub becomes { return ok($node->poll_query_until('store', $_[0]), $_[1]); }

# catches_up(projection, name): it takes in all there is
sub catches_up { return becomes("SELECT status = 'running' AND lag = 0 FROM es_projections WHERE projection = '$_[0]'", $_[1]); }

1;
