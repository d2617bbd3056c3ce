# Parts, lowest first: a part may include only the headers of parts before it.
# The order is that of the objects, of the install script and of the layer lint.
PARTS = base store segment settle wait maker stream uuid7 tags request refusal retry append many bulk ingest read log boundary tree reduce define fold replay feedoption feedformat feeddecode feed eventstore

PG_CONFIG ?= pg_config
EXTVERSION = 0.1.0

EXTENSION = eventstore
MODULE_big = eventstore
OBJS = $(patsubst %.c,%.o,$(wildcard $(patsubst %,src/%.c,$(PARTS))))
DATA_built = eventstore--$(EXTVERSION).sql
PG_CFLAGS = -Wall -Wextra -Wno-unused-parameter -Wno-missing-field-initializers -Wno-sign-compare -Wno-declaration-after-statement

PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

eventstore--$(EXTVERSION).sql: $(wildcard $(patsubst %,src/%.sql,$(PARTS))) Makefile
	( printf '%s\n' '\echo Use "CREATE EXTENSION eventstore" to load this file. \quit'; cat $(wildcard $(patsubst %,src/%.sql,$(PARTS))) ) > $@

$(OBJS) $(OBJS:.o=.bc): $(wildcard src/*.h)
