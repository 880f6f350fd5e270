# Every target does its own set-up: Python 3.11, git and make are all it needs.
PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: setup test slow lint demo bench fuzz fuzz-gossip sockets-gossip torture mutants pages clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not slow"

# Stories that take minutes: quorums lost and recovered, upgrades, restores.
slow: setup
	$(BIN)/python -m pytest -m slow

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

demo: setup
	$(BIN)/python -m core.cli.demo $(if $(KEEP),--keep)

# Random faults over the shipped machines on virtual time, seed by seed.
SEEDS ?= 300
fuzz: setup
	$(BIN)/serai sim fuzz -seeds $(SEEDS) tests/sim/fuzz.hcl

# Real servers under kill -9, SIGSTOP, cuts and full disks. Under 30 rounds prove little
# (exit 3 there means that they were clean). REGIONS=3 ROUNDS=15: one job over three regions,
# its processes counted in /proc.
SEED    ?= 1
ROUNDS  ?= 100
REGIONS ?= 1
torture: setup
	$(BIN)/python -m tests.torture --seed $(SEED) --rounds $(ROUNDS) --regions $(REGIONS) \
	    || test $$? = 3

# Broken packets against gossip's decoders and a live machine. Ten minutes are a full run
# (exit 3 means that a shorter one found nothing).
MINUTES ?= 10
fuzz-gossip: setup
	$(BIN)/python -m sim.gossip fuzz --minutes $(MINUTES) || test $$? = 3

# 200 gossip members on real sockets, a fifth of them killed and restarted, watched for leaks.
# MINUTES=0.1 MEMBERS=40 is the short slice (exit 3 means that it ran).
MEMBERS ?= 200
sockets-gossip: setup
	$(BIN)/python -m sim.gossip sockets --minutes $(MINUTES) --members $(MEMBERS) || test $$? = 3

# Planted bugs: which checker finds each, after how many seeds. PATCH=FILE judges one more.
WORKERS ?= 1
mutants: setup
	$(BIN)/python -m sim.mutants --workers $(WORKERS) $(if $(PATCH),--patch $(PATCH))

# Figures of the shipped code, program by program (bench/README.md). REDUCED=1 is a short run
# that proves nothing (exit 3 there means that it ran); BENCH=raft runs one of them.
BENCH ?= submission jobspec gossip raft scheduler federation
bench: setup
	set -e; for name in $(BENCH); do \
	    $(BIN)/python -m bench.$$name $(if $(REDUCED),--reduced || test $$? = 3); \
	done

# The tables in docs/ that are made from the code: schema, defaults, what is not carried out.
pages: setup
	$(BIN)/python docs/generate.py

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
