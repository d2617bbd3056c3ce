# Random JSON Schemas, changes of them such as people make, and values that one may
# accept, out of a small world of names, strings and numbers, so that they often meet.
package SchemaMaker;

use strict;
use warnings;
use Exporter 'import';
use JSON::PP;

our @EXPORT = qw(aim_at make_schema change_schema make_value vary_value json_text);

my $json = JSON::PP->new->canonical->allow_nonref;
my @keys = qw(a b c kind);
my @strings = ('', 'a', 'b', 'ab', 'abc', 'xab', '12', 'long text');
my @patterns = ('^a', 'b$', '^[0-9]+$', '^x', '.');
my @types = qw(null boolean string number integer object array);
my ($yes, $no) = (JSON::PP::true, JSON::PP::false);

sub json_text { my ($value) = @_; return $json->encode($value); }
sub copy { my ($value) = @_; return $json->decode($json->encode($value)); }
sub pick { return $_[ rand @_ ]; }
sub chance { my ($part) = @_; return rand() < $part; }
sub some { my ($part, @list) = @_; return grep { chance($part) } @list; }
sub is_object { my ($value) = @_; return ref $value eq 'HASH'; }
sub keys_of { my ($hash) = @_; return sort keys %{ $hash // {} }; }

# What a schema speaks of, so that values come near to it: its numbers and strings.
my (@numbers, @words);

# aim_at(schema, ...): has values be about these schemas, until it is called again.
sub aim_at
{
	my (@schemas) = @_;
	my $text = join ' ', map { json_text($_) } @schemas;

	@numbers = map { my $at = $_; map { $at + $_ } -1, -0.5, 0, 0, 0, 0.5, 1 } $text =~ /[:\[,](-?[0-9.]+)/g;
	@words = (@strings, map { 'a' x $_ } grep { $_ == int && $_ >= 0 && $_ < 10 } @numbers);
	return;
}

# A simple value.
sub simple
{
	my $dice = rand();
	return pick(@numbers) + 0 if @numbers && $dice > 0.85;
	return undef if $dice < 0.1;
	return pick($yes, $no) if $dice < 0.2;
	return pick(@strings) . '' if $dice < 0.6;
	return pick(-1, 0, 1, 2, 3, 4, 5, 6, 10, 0.5, 1.5, 2.25) + 0;
}

# Rules for one type of values.
sub rules_of_type
{
	my ($type, $depth) = @_;
	my %schema;

	if ($type eq 'string')
	{
		$schema{minLength} = int rand 3 if chance(0.3);
		$schema{maxLength} = int rand 5 if chance(0.3);
		$schema{pattern} = pick(@patterns) if chance(0.2);
	}
	elsif ($type =~ /^(number|integer)$/)
	{
		$schema{ pick('minimum', 'exclusiveMinimum') } = pick(-1, 0, 1, 1.5, 2) + 0 if chance(0.4);
		$schema{ pick('maximum', 'exclusiveMaximum') } = pick(2, 3, 4.5, 5, 10) + 0 if chance(0.4);
		$schema{multipleOf} = pick(0.5, 1, 2, 3, 6) + 0 if chance(0.25);
	}
	elsif ($type eq 'object')
	{
		$schema{properties} = { map { $_ => make_schema($depth - 1) } some(0.5, @keys) } if chance(0.85);
		$schema{required} = [ some(0.4, @keys) ] if chance(0.5);
		$schema{additionalProperties} = chance(0.6) ? $no : make_schema($depth - 1) if chance(0.5);
		$schema{patternProperties} = { map { $_ => make_schema($depth - 1) } some(0.3, '^a', '^k', 'b$') } if chance(0.2);
		$schema{minProperties} = int rand 3 if chance(0.15);
		$schema{maxProperties} = int rand 4 if chance(0.15);
		$schema{propertyNames} = chance(0.5) ? { enum => [ some(0.6, @keys) ] } : rules_of_type('string', 0) if chance(0.1);
		$schema{dependentRequired} = { pick(@keys) => [ some(0.5, @keys) ] } if chance(0.12);
		$schema{dependentSchemas} = { pick(@keys) => make_schema($depth - 1) } if chance(0.1);
		$schema{unevaluatedProperties} = chance(0.7) ? $no : make_schema($depth - 1) if chance(0.08);
	}
	elsif ($type eq 'array')
	{
		$schema{prefixItems} = [ map { make_schema($depth - 1) } 0 .. int rand 2 ] if chance(0.3);
		$schema{items} = chance(0.2) ? $no : make_schema($depth - 1) if chance(0.6);
		$schema{minItems} = int rand 3 if chance(0.2);
		$schema{maxItems} = int rand 4 if chance(0.2);
		$schema{uniqueItems} = $yes if chance(0.15);
		$schema{contains} = make_schema($depth - 1) if chance(0.15);
		$schema{minContains} = int rand 3 if $schema{contains} && chance(0.4);
		$schema{maxContains} = 1 + int rand 2 if $schema{contains} && chance(0.3);
		$schema{unevaluatedItems} = $no if chance(0.06);
	}
	return %schema ? \%schema : {};
}

# make_schema(depth): a schema; with $defs if told, which it refers to.
sub make_schema
{
	my ($depth, $defs) = @_;
	my $dice = rand();
	my ($type, $schema);

	return pick($yes, $no, {}) if $dice < 0.04 && !$defs;
	return { '$ref' => pick('#/$defs/one', '#/$defs/two') } if $dice < 0.12 && $depth < 3 && !$defs;
	return { enum => [ map { simple() } 0 .. int rand 4 ] } if $dice < 0.19 && !$defs;
	return { const => simple() } if $dice < 0.23 && !$defs;
	return { type => pick(@types) } if $depth <= 0 && chance(0.7);
	if ($dice < 0.37 && $depth > 0)
	{
		my $keyword = pick(qw(anyOf oneOf allOf));
		$schema = { $keyword => [ map { make_schema($depth - 1) } 0 .. int rand 3 ] };
	}
	elsif ($dice < 0.41 && $depth > 0)
	{
		$schema = { not => make_schema($depth - 1) };
	}
	elsif ($dice < 0.46 && $depth > 0)
	{
		$schema = { if => make_schema($depth - 1) };
		$schema->{then} = make_schema($depth - 1) if chance(0.8);
		$schema->{else} = make_schema($depth - 1) if chance(0.6);
	}
	if (!$schema || chance(0.25))
	{
		$type = $defs || ($depth >= 2 && chance(0.6)) ? 'object' : pick(@types);
		$schema = { %{ $schema // {} }, %{ rules_of_type($type, $depth) } };
		$schema->{type} = $type if chance(0.85);
		$schema->{type} = [ $type, grep { $_ ne $type } pick(@types) ] if chance(0.12);
	}
	$schema->{'$defs'} = { one => make_schema(1), two => rules_of_type('object', 2) } if $defs;
	return $schema;
}

# All schemas in a schema, as references to where they are.
sub places
{
	my ($place) = @_;
	my $schema = $$place;
	my @found = ($place);

	return @found unless is_object($schema);
	for my $keyword (keys_of($schema))
	{
		my $value = $schema->{$keyword};
		if ($keyword =~ /^(properties|patternProperties|dependentSchemas|\$defs)$/)
		{
			push @found, map { places(\$value->{$_}) } keys_of($value);
		}
		elsif ($keyword =~ /^(anyOf|oneOf|allOf|prefixItems)$/)
		{
			push @found, map { places(\$value->[$_]) } 0 .. $#$value;
		}
		elsif ($keyword =~ /^(not|if|then|else|items|contains|additionalProperties|propertyNames|unevaluated\w+)$/)
		{
			push @found, places(\$schema->{$keyword});
		}
	}
	return @found;
}

# Changes a list of values.
sub change_list
{
	my ($list) = @_;
	return chance(0.6) ? [ @$list, simple() ] : @$list > 1 ? [ @$list[ 1 .. $#$list ] ] : $list;
}

# Changes one keyword that is there; in the way in which people do.
sub change_keyword
{
	my ($schema, $keyword) = @_;
	my $value = $schema->{$keyword};

	if ($keyword =~ /^(m[ai][xn]|exclusive|multipleOf)/)
	{
		my $to = $keyword eq 'multipleOf' ? $value * pick(0.5, 2, 3) : $value + pick(-2, -1, 1, 2);
		$schema->{$keyword} = $to if $keyword =~ /imum$|multipleOf/ || $to >= 0;
	}
	elsif ($keyword eq 'enum') { $schema->{enum} = change_list($value); }
	elsif ($keyword eq 'const') { delete $schema->{const}; $schema->{enum} = [ $value, simple() ]; }
	elsif ($keyword eq 'required') { $schema->{required} = chance(0.5) ? [ @$value[ 1 .. $#$value ] ] : [ some(0.5, @keys) ]; }
	elsif ($keyword eq 'properties')
	{
		my $key = pick(@keys);
		if (exists $value->{$key}) { delete $value->{$key}; }
		else { $value->{$key} = make_schema(1); }
	}
	elsif ($keyword =~ /^(anyOf|oneOf|allOf|prefixItems)$/)
	{
		if (chance(0.5)) { splice @$value, int rand(@$value + 1), 0, make_schema(1); }
		elsif (@$value > 1) { splice @$value, int rand @$value, 1; }
		@$value = reverse @$value if chance(0.2) && $keyword ne 'prefixItems';
		my $other = pick(qw(anyOf oneOf allOf));
		$schema->{$other} = delete $schema->{$keyword} if chance(0.15) && $keyword ne 'prefixItems' && !exists $schema->{$other};
	}
	elsif ($keyword eq 'type')
	{
		my @now = ref $value ? @$value : ($value);
		my $more = pick(@types);
		$schema->{type} = [ @now, grep { my $type = $_; !grep { $_ eq $type } @now } $more ];
		$schema->{type} = 'number' if chance(0.3) && $value eq 'integer';
	}
	else { delete $schema->{$keyword} unless $keyword eq '$defs'; }
	return;
}

# Changes a schema that has keywords.
sub change_object
{
	my ($schema) = @_;
	my $dice = rand();
	my @keywords = grep { $_ ne '$defs' } keys_of($schema);

	if ($dice < 0.45 && @keywords) { change_keyword($schema, pick(@keywords)); }
	elsif ($dice < 0.65 && @keywords) { delete $schema->{ pick(@keywords) }; }
	else
	{
		my $more = rules_of_type(pick(@types), 1);
		my ($keyword) = pick(keys_of($more));
		$schema->{$keyword} = $more->{$keyword} if defined $keyword && !exists $schema->{$keyword};
	}
	delete @$schema{qw(minContains maxContains)} unless exists $schema->{contains};
	return;
}

# Puts a schema into another one.
sub wrap
{
	my ($schema) = @_;
	my $dice = rand();
	return { anyOf => [ $schema, make_schema(1) ] } if $dice < 0.35;
	return { oneOf => [ make_schema(1), $schema ] } if $dice < 0.6;
	return { allOf => [ $schema ] } if $dice < 0.75;
	return { allOf => [ $schema, make_schema(1) ] } if $dice < 0.9;
	return { not => { not => $schema } };
}

# change_schema(schema): a new version of it.
sub change_schema
{
	my ($schema) = @_;
	my $new = copy($schema);

	for (0 .. int rand 2)
	{
		my $place = pick(places(\$new));
		if (!is_object($$place)) { $$place = pick($yes, $yes, make_schema(1)); }
		elsif (chance(0.1) && !exists $$place->{'$defs'}) { $$place = wrap($$place); }
		elsif (chance(0.05) && !exists $$place->{'$defs'}) { $$place = pick($yes, {}, make_schema(1)); }
		else { change_object($$place); }
	}
	$new->{'$defs'} //= $schema->{'$defs'} if is_object($new) && is_object($schema);
	return $new;
}

# The schema that a reference leads to.
sub target
{
	my ($root, $ref) = @_;
	my ($name) = $ref =~ m{/(\w+)$} or return $root;
	return $root->{'$defs'}{$name} // $yes;
}

# A number that a schema may accept.
sub make_number
{
	my ($schema) = @_;
	my @near = grep { defined } @$schema{qw(minimum exclusiveMinimum maximum exclusiveMaximum multipleOf)};
	my $number = @numbers && chance(0.4) ? pick(@numbers) : @near && chance(0.8) ? pick(@near) + pick(-1, -0.5, 0, 0, 0.5, 1) : pick(-1, 0, 1, 2, 3, 6, 0.5, 1.5);
	my $step = $schema->{multipleOf};
	$number = $step * int($number / $step + 0.5) if $step && chance(0.8);
	return $number + 0;
}

# An object that a schema may accept.
sub make_object
{
	my ($schema, $root, $depth) = @_;
	my %required = map { $_ => 1 } @{ $schema->{required} // [] };
	my $often = rand();
	my %object;

	for my $key (@keys, 'other')
	{
		my $part = ref $schema->{properties} ? $schema->{properties}{$key} : undef;
		$part //= exists $schema->{additionalProperties} ? $schema->{additionalProperties} : {};
		next unless $required{$key} ? chance(0.95) : chance($often * 0.7);
		next if !$required{$key} && !is_object($part) && !$part && chance(0.9);
		$object{$key} = make_value($part, $root, $depth - 1);
	}
	return \%object;
}

# An array that a schema may accept.
sub make_array
{
	my ($schema, $root, $depth) = @_;
	my $least = $schema->{minItems} // 0;
	my @array;

	push @array, make_value($schema->{contains}, $root, $depth - 1) if exists $schema->{contains} && chance(0.8);
	while (@array < $least + rand 3 && @array < ($schema->{maxItems} // 4))
	{
		my $part = ($schema->{prefixItems} // [])->[ scalar @array ] // $schema->{items} // {};
		push @array, make_value($part, $root, $depth - 1);
	}
	return \@array;
}

# A string that a schema may accept.
sub make_string
{
	my ($schema) = @_;
	my $least = $schema->{minLength} // 0;
	my $most = $schema->{maxLength} // 20;
	my @known = @words ? @words : @strings;
	my @fitting = grep { length >= $least && length() <= $most } @known;
	@fitting = grep { /$schema->{pattern}/ } @fitting if exists $schema->{pattern};
	return pick(@fitting && chance(0.95) ? @fitting : @known) . '';
}

# A value for which one of the schemas is to hold that this one is made of; or none.
sub choose_part
{
	my ($schema, $root) = @_;
	my @parts;

	push @parts, target($root, $schema->{'$ref'}) if exists $schema->{'$ref'};
	push @parts, map { @{ $schema->{$_} // [] } } qw(anyOf oneOf allOf);
	push @parts, grep { defined } @$schema{qw(then else if)};
	return @parts && chance(0.75) ? pick(@parts) : undef;
}

# make_value(schema, root, depth): a value that the schema, part of root, may accept.
sub make_value
{
	my ($schema, $root, $depth) = @_;

	return simple() if !is_object($schema) || $depth <= 0 || chance(0.03);
	return $schema->{const} if exists $schema->{const};
	return pick(@{ $schema->{enum} }) if exists $schema->{enum} && @{ $schema->{enum} };
	my $part = choose_part($schema, $root);
	if (defined $part)
	{
		# Both at once, if both are about objects.
		return make_value($part, $root, $depth) unless is_object($part);
		my %both = (%$schema, %$part);
		$both{properties} = { %{ $schema->{properties} // {} }, %{ $part->{properties} // {} } };
		$both{required} = [ @{ $schema->{required} // [] }, @{ $part->{required} // [] } ];
		delete @both{ grep { !exists $part->{$_} } qw($ref anyOf oneOf allOf if then else) };
		return make_value(\%both, $root, $depth - 1);
	}
	my $type = $schema->{type} // pick(@types, 'object', 'object');
	$type = pick(@$type) if ref $type;
	return undef if $type eq 'null';
	return pick($yes, $no) if $type eq 'boolean';
	return make_string($schema) if $type eq 'string';
	return make_number($schema) if $type eq 'number';
	return int(make_number($schema)) if $type eq 'integer';
	return make_object($schema, $root, $depth) if $type eq 'object';
	return make_array($schema, $root, $depth);
}

# vary_value(value): one that differs a little.
sub vary_value
{
	my ($value) = @_;

	if (ref $value eq 'HASH')
	{
		my %object = %$value;
		my $key = pick(@keys, 'other');
		if (exists $object{$key} && chance(0.5)) { delete $object{$key}; }
		elsif (exists $object{$key} && chance(0.5)) { $object{$key} = vary_value($object{$key}); }
		else { $object{$key} = simple(); }
		return \%object;
	}
	if (ref $value eq 'ARRAY')
	{
		my @array = @$value;
		if (@array && chance(0.4)) { pop @array; }
		elsif (@array && chance(0.5)) { my $i = int rand @array; $array[$i] = vary_value($array[$i]); }
		else { push @array, simple(); }
		return \@array;
	}
	return simple();
}

1;
