# leasefs: `make run` starts a cluster and mounts it, `make test` tests everything. Both set the machine up
# first (setup.sh). MNT: the mountpoint of `make run`; DATA: where its cluster keeps everything.
MNT ?= ./mnt
DATA ?= ./.leasefs
# Passed on to `leasefs up`, for example: make run UP_OPTIONS='--driver fuse-native'
UP_OPTIONS ?=
# Parts of test paths; empty: all. For example: make test TESTS=cmd/
TESTS ?=
# Of `make fuzz`: where it begins, and how many operations on the host's filesystem and on a mount are compared.
SEED ?= 1
OPS ?= 100000
# Of `make torture`, which takes SEED too: how many histories; a bug to plant (test/torture/planted.ts); one kind
# of fault for all of them (test/torture/faults.ts), or none.
HISTORIES ?= 100
PLANT ?=
FAULT ?=
# Of `make deadlock`: how long.
MINUTES ?= 10
# Of `make sim`, which begins at SEED as well: how many clusters are simulated.
SEEDS ?= 2000

BIN := node_modules/.bin
.PHONY: run test check build bench fuzz torture deadlock sim clean setup
.DEFAULT_GOAL := build

run: build
	@mkdir -p $(MNT) 2>/dev/null || true
	@exec node dist/src/cmd/leasefs.js up $(MNT) --data $(DATA) $(UP_OPTIONS)

# Ends with the line `N passed, N failed`, whatever happened.
test:
	@{ ./setup.sh test && $(MAKE) -s --no-print-directory compile lint; } || { echo '0 passed, 1 failed'; exit 1; }
	@exec node dist/test/run.js $(TESTS)

# Types, lint and format, tidiness.
check: setup compile lint
	@node dist/test/run.js tidy/

build: setup compile

# Each measurement in bench/, one after the other; BENCH=rpc runs that one.
bench: build
	@set -e; for file in $(if $(BENCH),$(BENCH),$(notdir $(basename $(wildcard bench/*.ts)))); do \
	  echo "== $$file"; node dist/bench/$$file.js; done

fuzz: build
	@LEASEFS_FUZZ_SEED=$(SEED) LEASEFS_FUZZ_OPERATIONS=$(OPS) TEST_TIMEOUT_SECONDS=86400 \
	  node dist/test/run.js cluster/differential

torture: build
	@exec node --enable-source-maps dist/test/torture/main.js --histories $(HISTORIES) --seed $(SEED) \
	  $(if $(PLANT),--plant $(PLANT)) $(if $(FAULT),--fault $(FAULT))

deadlock: build
	@exec node --enable-source-maps dist/test/deadlock/main.js --minutes $(MINUTES) --seed $(SEED)

sim: build
	@SEED=$(SEED) SEEDS=$(SEEDS) node --enable-source-maps dist/test/sim/run.js

# Removes what is built; data and packages stay.
clean:
	rm -rf dist .tap

setup:
	@./setup.sh run

.PHONY: compile lint
compile:
	@$(BIN)/tsc -p .
	@chmod +x dist/src/cmd/leasefs.js dist/src/cmd/mount-leasefs.js

lint:
	@$(BIN)/biome check --error-on-warnings .
