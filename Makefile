# Parts, lowest first: a part may include only the headers of parts before it.
# The order is that of the objects, of the install script and of the layer lint.
PARTS = objects base names error node jsontext textsize shared sharedmark flight roster wake sequence btree prefetch pages extend columns altered kept store rows subscriber segment walmark settle timeline wait settings maker publisher mirror streamlock stream tipcache uuid7 tags read cursor log subscription failure member lease poll ack handler tree pack place value opcompile ops upcast state reduce snapshot define fold aggregate replay category projection progress readmodel project batch rebuild inline declare projector request refusal retry eventrow attempt append bulk ingest boundary feedoption feedformat feedmessage feeddecode feed utility ddlguard restore upgrade worker eventstore

PG_CONFIG ?= pg_config

EXTENSION = eventstore
MODULE_big = eventstore
EXTVERSION := $(shell sed -n "s/^default_version = '\(.*\)'/\1/p" eventstore.control)
SCRIPT = $(EXTENSION)--$(EXTVERSION).sql
OBJS = $(PARTS:%=src/%.o)
DATA_built = $(SCRIPT)
DOCS = doc/eventstore.md
# For `make installcheck` on a server of yours; `make test` does much more.
REGRESS = $(sort $(patsubst sql/%.sql,%,$(wildcard sql/*.sql)))
REGRESS_OPTS = --load-extension=$(EXTENSION)

WARNINGS = -Wall -Wextra -Wno-unused-parameter -Wno-missing-field-initializers \
	-Wno-sign-compare -Wno-declaration-after-statement
PG_CFLAGS = $(WARNINGS) -MMD -MP
EXTRA_CLEAN = src/*.d src/.server

# What the scripts in tools/, demo/, test/ and lint/ need to know of the build.
export PG_CONFIG
RUN = $(MAKE) --no-print-directory

.PHONY: all setup demo test psql lint indent bench compile-command
.PHONY: esfeed esfeed-install esfeed-uninstall esfeed-clean
all:

# Bitcode would let the JIT inline our functions; they do I/O, it gains nothing
# and doubles the build.
override with_llvm = no

# Must be set before the include, and the file need not exist yet: on a fresh
# machine `make setup`, `make demo` and `make test` install the server first.
PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)
SERVER_HEADER := $(shell $(PG_CONFIG) --includedir-server 2>/dev/null)/postgres.h
ifeq ($(words $(wildcard $(PGXS) $(SERVER_HEADER))),2)
include $(PGXS)

# Objects built for another server are built anew; header edits rebuild too.
SERVER := $(shell $(PG_CONFIG) --version --pkglibdir --cflags)
ifneq ($(SERVER),$(shell cat src/.server 2>/dev/null))
$(file >src/.server,$(SERVER))
endif
$(OBJS): src/.server
-include $(wildcard src/*.d)

# The consumer of feeds is a program of its own.
all: esfeed
install: esfeed-install
uninstall: esfeed-uninstall
clean: esfeed-clean
esfeed:
	+@$(RUN) -C esfeed
esfeed-install esfeed-uninstall esfeed-clean: esfeed-%:
	+@$(RUN) -C esfeed $*
else
all install installcheck:
	@echo "No PostgreSQL server headers found through '$(PG_CONFIG)'." >&2
	@echo "Run 'make setup', or set PG_CONFIG=/path/to/pg_config." >&2
	@exit 1
clean:
	rm -f src/*.o src/*.d src/.server $(SCRIPT) $(EXTENSION).so
endif

$(SCRIPT): $(wildcard $(PARTS:%=src/%.sql)) Makefile eventstore.control
	( printf '%s\n' '\echo Use "CREATE EXTENSION $(EXTENSION)" to load this file. \quit'; \
	  cat $(wildcard $(PARTS:%=src/%.sql)) ) > $@.new
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

psql:
	@tools/setup server
	@$(RUN) all
	@tools/psql

lint: all
	@test/run lint

indent:
	@lint/indent --write

bench: all
	@bench/run

compile-command:
	@echo $(CC) $(CPPFLAGS) $(CFLAGS)
