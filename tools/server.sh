# shellcheck shell=bash
#
# server.sh: a private PostgreSQL server for the demo, the tests and the bench;
# to be sourced.
#
# open_workshop NAME makes a folder under /tmp and in it a copy of the server's
# installation: programs copied, everything else linked. PostgreSQL finds its
# libraries relative to the programs, so the extension is installed into the copy
# and the machine's own server is neither changed nor met: sockets are in the
# folder, no TCP port is opened. Everything runs as the user postgres when called
# by root (initdb refuses root), else as the caller. The folder does not depend
# on where the sources are, which the user postgres may not be able to read.
#
# Whatever way the caller ends, the process group that it named in
# background_group is ended, servers below the folder are stopped by the pid in
# their postmaster.pid, what start_daemon started by that in daemon.pid, and the
# folder goes.

# The caller's connection settings are none of our business.
for name in ${!PG@}; do
	[ "$name" = PG_CONFIG ] || unset "$name"
done
unset name
# Databases are UTF-8, whatever the caller's locale; messages are English.
export LC_ALL=C LANG=C.UTF-8
umask 022

: "${PG_CONFIG:=pg_config}"
background_group=
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

die() { echo "$(basename "$0"): $*" >&2; exit 1; }

# as_server COMMAND...: runs it as the user who owns the servers
as_server() {
	if [ "$(id -u)" = 0 ]; then
		runuser -u postgres -- env HOME="$work" PATH="$bin:$PATH" "$@"
	else
		env HOME="$work" PATH="$bin:$PATH" "$@"
	fi
}

# open_workshop NAME: sets work (the folder), bin (the server's programs),
# pgxs (PGXS's folder); the current folder becomes work
open_workshop() {
	local parent=${TMPDIR:-/tmp}
	# a socket's path may have 107 bytes
	[ "${#parent}" -le 50 ] || parent=/tmp
	if [ "$(id -u)" = 0 ]; then
		id postgres >/dev/null 2>&1 || die "there is no user postgres, and initdb refuses root"
	fi
	work=$(mktemp -d "$parent/eventstore-$1.XXXXXX")
	bin=$work/server$("$PG_CONFIG" --bindir)
	# shellcheck disable=SC2034
	pgxs=$(dirname "$("$PG_CONFIG" --pgxs)")/../..
	trap close_workshop EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	chmod 755 "$work"
	copy_installation
	install_extension
	[ "$(id -u)" != 0 ] || chown postgres: "$work"
	cd "$work" || exit 1
}

# copy_installation: programs copied, libraries and share linked file by file
copy_installation() {
	local folder
	mkdir -p "$bin"
	cp -L "$("$PG_CONFIG" --bindir)"/* "$bin/"
	for folder in "$("$PG_CONFIG" --pkglibdir)" "$("$PG_CONFIG" --sharedir)"; do
		mkdir -p "$work/server$folder"
		cp -rs --remove-destination "$folder/." "$work/server$folder/"
	done
	[ -z "${ES_POSTGRES_UNDER:-}" ] || put_under
}

# put_under: what starts a server starts it under the program in ES_POSTGRES_UNDER, a
# command with its arguments; what makes a cluster or only asks does not
put_under() {
	mv "$bin/postgres" "$bin/postgres.alone"
	cat >"$bin/postgres" <<-END
		#!/bin/sh
		case \$1 in
			-V | --*) exec '$bin/postgres.alone' "\$@" ;;
		esac
		exec $ES_POSTGRES_UNDER '$bin/postgres.alone' "\$@"
	END
	chmod 755 "$bin/postgres"
}

# install_extension: the built extension into the copy, as users install it
install_extension() {
	"${MAKE:-make}" -s -C "$top" install DESTDIR="$work/server" >"$work/install.log" 2>&1 || {
		cat "$work/install.log" >&2
		die "make install failed"
	}
}

# close_workshop: stops every server below the work folder and removes it
close_workshop() {
	local status=$? pidfile
	trap - EXIT
	trap '' INT TERM HUP
	cd /
	if [ -n "$background_group" ]; then
		kill -TERM -- "-$background_group" 2>/dev/null || true
		wait "$background_group" 2>/dev/null || true
	fi
	while IFS= read -r -d '' pidfile; do
		as_server "$bin/pg_ctl" stop -s -m immediate -D "$(dirname "$pidfile")" >/dev/null 2>&1 || true
	done < <(find "$work" -name postmaster.pid -print0 2>/dev/null)
	stop_daemons || true
	rm -rf "$work"
	exit "$status"
}

# start_daemon FOLDER COMMAND...: in the background, in FOLDER, where its pid and
# what it prints go; a server that is not PostgreSQL
start_daemon() {
	local folder=$1
	shift
	# shellcheck disable=SC2016
	(as_server bash -c 'cd "$0" && echo $$ >daemon.pid && exec "$@"' "$folder" "$@" </dev/null >"$folder/log" 2>&1 &)
}

# stop_daemons: all that start_daemon started
stop_daemons() {
	local file folder pid i
	while IFS= read -r -d '' file; do
		folder=$(dirname "$file")
		pid=$(cat "$file")
		for ((i = 0; i <= 100; i++)); do
			# once it is gone, the number may be another program's
			as_server test "/proc/$pid/cwd" -ef "$folder" || break
			case $i in
				0) kill -TERM "$pid" 2>/dev/null || true ;;
				100) kill -KILL "$pid" 2>/dev/null || true ;;
				*) sleep 0.1 ;;
			esac
		done
		rm -f "$file"
	done < <(find "$work" -name daemon.pid -print0 2>/dev/null)
}

# plugin_setting: servers since 15.19 load only output plugins that are named in
# a setting, and older ones refuse to start when they meet that setting
plugin_setting() {
	# no grep -q: it would leave early, and the server fail for it
	if "$bin/postgres" --describe-config | cut -f1 | grep -x output_plugin_libraries >/dev/null; then
		echo "output_plugin_libraries = 'pgoutput, test_decoding, eventstore'"
	fi
}

# copy_tests: the tests into the workshop, where the server's user can read them
copy_tests() {
	local folder
	mkdir -p "$work/src"
	for folder in sql expected test demo doc monitoring README.md; do
		[ ! -e "$top/$folder" ] || cp -r "$top/$folder" "$work/src/"
	done
	[ "$(id -u)" != 0 ] || chown -R postgres: "$work/src"
}

# prepare_tap: for TAP files, which make clusters of their own: tap_environment is what
# they are to have in their environment, and src in the workshop their folder
prepare_tap() {
	local perl=$pgxs/src/test/perl
	[ -f "$perl/PostgreSQL/Test/Cluster.pm" ] || die "no PostgreSQL::Test in $perl"
	as_server mkdir -p "$work/tap"
	plugin_setting | as_server tee "$work/tap/temp_config" >/dev/null
	# shellcheck disable=SC2034
	tap_environment=(TMPDIR="$work" TESTDIR="$work/tap" TESTDATADIR="$work/tap/data" TESTLOGDIR="$work/tap/log"
		TEMP_CONFIG="$work/tap/temp_config" PG_REGRESS="$pgxs/src/test/regress/pg_regress"
		PERL5LIB="$perl:$work/src/test/lib")
}

# create_server [SETTING...]: a cluster in work/data, listening in work only
create_server() {
	as_server "$bin/initdb" -D "$work/data" -U postgres -A trust -E UTF8 --no-locale >"$work/initdb.log" 2>&1 ||
		{ cat "$work/initdb.log" >&2; die "initdb failed"; }
	{
		echo "listen_addresses = ''"
		echo "unix_socket_directories = '$work'"
		echo "port = 54321"
		echo "wal_level = logical"
		echo "max_replication_slots = 20"
		echo "max_wal_senders = 20"
		echo "max_worker_processes = 20"
		plugin_setting
		printf '%s\n' "$@"
	} | as_server tee -a "$work/data/postgresql.conf" >/dev/null
	export PGHOST=$work PGPORT=54321 PGUSER=postgres PGDATABASE=postgres
}

start_server() {
	as_server "$bin/pg_ctl" start -s -w -D "$work/data" -l "$work/server.log" ||
		{ tail -n 30 "$work/server.log" >&2; die "the server does not start"; }
}

stop_server() {
	as_server "$bin/pg_ctl" stop -s -w -m fast -D "$work/data"
}
