# The parts, each any of .c, .h and .sql, in the order of src/parts.
PARTS := $(shell awk '/^[a-z]/ { folder = $$1 } /^\t/ { print folder $$1 }' src/parts)

PG_CONFIG ?= pg_config

EXTENSION = eventstore
MODULE_big = eventstore
EXTVERSION := $(shell sed -n "s/^default_version = '\(.*\)'/\1/p" eventstore.control)
SCRIPT = $(EXTENSION)--$(EXTVERSION).sql
OBJS = $(patsubst %.c,%.o,$(wildcard $(PARTS:%=src/%.c)))
PARTS_SQL = $(wildcard $(PARTS:%=src/%.sql))
DATA_built = $(SCRIPT)
DATA = $(wildcard upgrade/$(EXTENSION)--*.sql)
DOCS = doc/eventstore.md
# For `make installcheck` on a server of yours; `make test` does much more.
REGRESS = $(sort $(patsubst sql/%.sql,%,$(wildcard sql/*.sql)))
REGRESS_OPTS = --load-extension=$(EXTENSION)

WARNINGS = -Wall -Wextra -Wno-unused-parameter -Wno-missing-field-initializers \
	-Wno-sign-compare -Wno-declaration-after-statement
PG_CFLAGS = $(WARNINGS) -MMD -MP
PG_CPPFLAGS = -Isrc -DES_VERSION='"$(EXTVERSION)"'
# secret/ encrypts with OpenSSL, 3.0 or later.
SHLIB_LINK += -lcrypto
# The last two: what trees that were built before src/ had folders still have.
EXTRA_CLEAN = $(OBJS:.o=.d) src/.server .released site src/*.o src/*.d

# What the scripts in tools/, demo/, test/ and lint/ need to know of the build.
export PG_CONFIG
RUN = $(MAKE) --no-print-directory

.PHONY: all setup demo test test-versions test-deb psql monitor lint indent bench compile-command dist deb docs
.PHONY: compat-install compat-uninstall docs-uninstall scripts-uninstall esfeed esfeed-install esfeed-uninstall esfeed-clean
all:

# SANITIZE=undefined: for test/sanitize.
export SANITIZE
ifneq ($(SANITIZE),)
PG_CFLAGS += -g -fsanitize=$(SANITIZE) -fno-sanitize-recover=all
SHLIB_LINK += -fsanitize=$(SANITIZE)
endif

# Bitcode would let the JIT inline our functions; they do I/O, it gains nothing
# and doubles the build.
override with_llvm = no

# Must be set before the include, and the file need not exist yet: on a fresh
# machine `make setup`, `make demo` and `make test` install the server first.
PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)
SERVER_HEADER := $(shell $(PG_CONFIG) --includedir-server 2>/dev/null)/postgres.h
ifeq ($(words $(wildcard $(PGXS) $(SERVER_HEADER))),2)
include $(PGXS)

# Objects built for another server, or otherwise, are built anew; header edits rebuild too.
SERVER := $(shell $(PG_CONFIG) --version --pkglibdir --cflags; echo $(SANITIZE))
ifneq ($(SERVER),$(shell cat src/.server 2>/dev/null))
$(file >src/.server,$(SERVER))
endif
$(OBJS): src/.server
src/base/base.o: eventstore.control
-include $(wildcard $(OBJS:.o=.d))

# Interfaces of other stores and the ways from them, and what routes to many, which nothing loads by itself.
COMPAT = $(wildcard compat/*.sql compat/*.mjs scaleout/*.sql)
COMPAT_FOLDER = $(DESTDIR)$(datadir)/$(EXTENSION)
install: compat-install
uninstall: compat-uninstall
compat-install: $(COMPAT)
	$(MKDIR_P) '$(COMPAT_FOLDER)'
	$(INSTALL_DATA) $(COMPAT) '$(COMPAT_FOLDER)/'
compat-uninstall:
	rm -f $(patsubst %,'$(COMPAT_FOLDER)/%',$(notdir $(COMPAT)))
	[ ! -d '$(COMPAT_FOLDER)' ] || rmdir --ignore-fail-on-non-empty '$(COMPAT_FOLDER)'
# What earlier versions had as their script is there since they were installed.
uninstall: scripts-uninstall
scripts-uninstall:
	rm -f '$(DESTDIR)$(datadir)/$(datamoduledir)/$(EXTENSION)'--*.sql
# PGXS looks for it where it would be with its folder.
ifdef docdir
uninstall: docs-uninstall
docs-uninstall:
	rm -f $(patsubst %,'$(DESTDIR)$(docdir)/$(docmoduledir)/%',$(notdir $(DOCS)))
endif

# The consumer of feeds is a program of its own; ESFEED=no leaves it out, as packages of the extension do.
ifneq ($(ESFEED),no)
all: esfeed
install: esfeed-install
uninstall: esfeed-uninstall
clean: esfeed-clean
endif
esfeed:
	+@$(RUN) -C esfeed
esfeed-install esfeed-uninstall esfeed-clean: esfeed-%:
	+@$(RUN) -C esfeed $*
else
all install installcheck:
	@echo "No PostgreSQL server headers found through '$(PG_CONFIG)'." >&2
	@echo "Run 'tools/setup server', or set PG_CONFIG=/path/to/pg_config." >&2
	@exit 1
clean:
	rm -f src/*/*.o src/*/*.d src/*.o src/*.d src/.server $(SCRIPT) $(EXTENSION).so
endif

$(SCRIPT): $(PARTS_SQL) src/parts Makefile eventstore.control
	( printf '%s\n' '\echo Use "CREATE EXTENSION $(EXTENSION)" to load this file. \quit'; \
	  cat $(PARTS_SQL) ) > $@.new
	mv $@.new $@

# The programs below run private servers in folders of their own.
setup:
	@tools/setup

demo:
	@tools/setup server
	@$(RUN) all
	@demo/run

test:
	@tools/setup
	@$(RUN) all
	@test/run

# VERSIONS="17 18": these only.
test-versions:
	@tools/setup
	@test/versions $(VERSIONS)

psql:
	@tools/setup server
	@$(RUN) all
	@tools/psql

monitor:
	@tools/setup monitor
	@$(RUN) all
	@monitoring/run

# The archive that PGXN takes, and Debian's packages; see tools/dist and tools/deb.
dist:
	@tools/setup package
	@tools/dist

deb:
	@tools/setup package
	@tools/deb

# The pages as a site, in site/; see tools/docs.
docs:
	@tools/setup docs
	@tools/docs

# Packages installed, used, updated and removed in a root of their own: some minutes.
test-deb:
	@tools/setup package
	@test/deb

lint: all
	@test/run lint

indent:
	@lint/indent --write

bench: all
	@bench/run

compile-command:
	@echo $(CC) $(CPPFLAGS) $(CFLAGS)
