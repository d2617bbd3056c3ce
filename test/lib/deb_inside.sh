#!/bin/bash
#
# deb_inside.sh VERSION [RELEASE]: what test/deb does inside of the root, which has the
# packages of the version in /new and those of the release before it in /old.
set -euo pipefail

version=$1
release=${2:-}
passed=0

# ok WHAT COMMAND...: a check
ok() {
	local what=$1
	shift
	if ! "$@" >/tmp/check.log 2>&1; then
		echo "FAILED $what"
		cat /tmp/check.log
		exit 1
	fi
	echo "ok     $what"
	passed=$((passed + 1))
}

# is WHAT WANTED COMMAND...: a check of what it prints
is() {
	local what=$1 wanted=$2 got
	shift 2
	got=$("$@" 2>&1) || true
	if [ "$got" != "$wanted" ]; then
		printf 'FAILED %s\n  got:    %s\n  wanted: %s\n' "$what" "$got" "$wanted"
		exit 1
	fi
	echo "ok     $what"
	passed=$((passed + 1))
}

install() { apt-get install -y -q --no-install-recommends "$@" >/tmp/apt.log 2>&1 || { tail -n 30 /tmp/apt.log; exit 1; }; }
sql() { runuser -u postgres -- psql -XAtq -v ON_ERROR_STOP=1 -d shop -c "$1"; }
# deliver: what there is, into a file, as the service's user and with its settings
deliver() {
	(cd /var/lib/esfeed/archive && PGDATABASE=shop runuser -u esfeed -- esfeed --feed=archive --metrics=/run/esfeed/archive/metrics.prom \
		--create --until-caught-up --to=file:/var/lib/esfeed/archive/events)
}
# files FOLDER: the packages for use, not those with symbols
files() { find "$1" -name '*.deb' ! -name '*-dbgsym_*'; }

apt-get update -q >/dev/null
server=$(files /new | sed -n 's!.*/postgresql-\([0-9]*\)-eventstore_.*!\1!p' | sort -n | tail -n 1)
mapfile -t new < <(files /new | grep -E "/(esfeed|postgresql-$server-eventstore)_")
mapfile -t old < <([ -z "$release" ] || files /old | grep -E "/(esfeed|postgresql-$server-eventstore)_")

# ---- installed ----

if [ -n "$release" ]; then first=("${old[@]}"); installed=$release; else first=("${new[@]}"); installed=$version; fi
install "${first[@]}" systemd
ok "the service's template is what systemd takes" systemd-analyze verify --man=no /lib/systemd/system/esfeed@.service
ok "esfeed has its man page" test -e /usr/share/man/man1/esfeed.1.gz
is "esfeed is of the version" "esfeed (eventstore) $installed" esfeed --version
cat >>"/etc/postgresql/$server/main/postgresql.conf" <<-END
	wal_level = logical
	listen_addresses = ''
	$(if "/usr/lib/postgresql/$server/bin/postgres" --describe-config | cut -f1 | grep -x output_plugin_libraries >/dev/null; then
		echo "output_plugin_libraries = 'pgoutput, eventstore'"
	fi)
END
ok "the server starts" pg_ctlcluster "$server" main start

# ---- used ----

runuser -u postgres -- psql -Xqc 'CREATE DATABASE shop' -c 'CREATE ROLE esfeed LOGIN REPLICATION'
sql "CREATE EXTENSION eventstore; SELECT es_grant('esfeed', 'read')" >/dev/null
is "a store of the version" "$installed" sql "SELECT extversion FROM pg_extension WHERE extname = 'eventstore'"
is "it takes events" 3 sql "SELECT max(es_append('order-1', 'OrderPlaced', jsonb_build_object('n', n))) FROM generate_series(1, 3) n"
mkdir -p /run/esfeed/archive /var/lib/esfeed/archive
chown -R esfeed: /run/esfeed /var/lib/esfeed
if [ -z "$release" ]; then
	ok "esfeed delivers them" deliver
fi

# ---- updated ----

if [ -n "$release" ]; then
	install "${new[@]}"
	is "esfeed is updated" "esfeed (eventstore) $version" esfeed --version
	is "the store is of before, and goes on" "4|$release" sql "SELECT es_append('order-1', 'OrderPlaced'), extversion FROM pg_extension WHERE extname = 'eventstore'"
	sql 'ALTER EXTENSION eventstore UPDATE'
	is "the store is updated" "5|$version" sql "SELECT es_append('order-1', 'OrderPlaced'), extversion FROM pg_extension WHERE extname = 'eventstore'"
	ok "esfeed delivers what there is" deliver
	is "es_doctor finds versions as they should be" 0 sql "SELECT count(*) FROM es_doctor() WHERE finding ~ 'version|on disk'"
fi
last=$(sql "SELECT es_append('order-1', 'OrderPlaced')")
ok "esfeed goes on" deliver
is "every event is in the file, once" "$last" grep -c OrderPlaced /var/lib/esfeed/archive/events
ok "esfeed tells its numbers" grep -q '^esfeed_up{feed="archive"} 0$' /run/esfeed/archive/metrics.prom

# ---- removed ----

PGDATABASE=shop runuser -u esfeed -- esfeed --feed=archive --drop
runuser -u postgres -- psql -Xqc 'DROP DATABASE shop'
apt-get purge -y -q "postgresql-$server-eventstore" esfeed >/tmp/apt.log 2>&1 || { cat /tmp/apt.log; exit 1; }
is "nothing of them is left" "" bash -c "find /usr /etc -path /usr/share/doc -prune -o '(' -name '*eventstore*' -o -name '*esfeed*' ')' -print"
ok "but what was delivered is" test -s /var/lib/esfeed/archive/events
ok "the server goes on without" runuser -u postgres -- psql -Xqc 'SELECT 1'
pg_ctlcluster "$server" main stop
echo "$passed passed, 0 failed"
