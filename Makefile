# Everything that a developer types. Needs git, make and Python 3.11 or newer; `make env` brings the rest.
.DEFAULT_GOAL := help
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.made
DEMO_ARGS ?=
TEST_ARGS ?=
BENCH_ARGS ?=
CROWD_ARGS ?=
SHOT ?=
# The peers beside which `make bench` measures, in an environment of their own.
PEERS := .venv-bench
BENCH ?= noop converge dispatch ten_thousand one_edit
# Second deaths after each first one, on average.
DOUBLES ?= 0.1
# Seeded worlds: how many, the first one's seed, testers in each, days of each; or the file of a story to be lived again.
N ?= 200
SEED ?= 1
TESTERS ?= 2
DAYS ?= 0.125
REPLAY ?=
WORLDS_ARGS ?=
# Tests wait for the world as much as they reckon: three keep two cores busy.
WORKERS ?= 3
# Many images forbid Python to keep what it has compiled; then every worker and every process that a test starts compiles all anew.
export PYTHONDONTWRITEBYTECODE :=
SOURCES := specs reconcilers controller api examples tests
# The oldest Python that can make environments is not always called python3.
FIND_PYTHON := for name in python3.13 python3.12 python3.11 python3 python; do \
	if command -v $$name >/dev/null 2>&1 && $$name -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; \
	then printf %s $$name; break; fi; done

.PHONY: help env demo test long long-tests long-worlds check bench bench-ready bench-month bench-api bench-replicas crowd screenshots worlds edits crash-points lock clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' $(MAKEFILE_LIST)

env: $(STAMP)  ## make .venv with everything pinned, and .venv/bin/testerctl in it

$(STAMP): requirements.lock pyproject.toml
	@python="$$($(FIND_PYTHON))"; \
	if [ -z "$$python" ]; then \
		echo "make: no Python 3.11 or newer that can make environments was found (on Debian: apt-get install python3 python3-venv)" >&2; \
		exit 1; \
	fi; \
	if ! $(BIN)/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
		echo "making $(VENV) with $$($$python --version)"; \
		"$$python" -m venv --clear $(VENV) || exit 1; \
	fi
	@echo "installing what requirements.lock pins"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $(STAMP)

demo: env  ## three testers come to life in a make-believe world; DEMO_ARGS=--exit ends when all are ready
	@$(BIN)/testerctl demo $(DEMO_ARGS)

test: env  ## all tests, the checks among them; TEST_ARGS goes to pytest, STORE=postgresql takes a server for every store
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(TEST_ARGS)

long: env  ## what takes longer: every mishap alone, and N seeded worlds beside it
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target long-tests long-worlds

long-tests: env
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m long $(TEST_ARGS)

# These tests wait for real clocks half of the time: the worlds take what they leave.
long-worlds: env
	@nice -n 10 $(MAKE) --no-print-directory worlds

check: env  ## format, lint, types and layers
	@$(BIN)/ruff format --check $(SOURCES)
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: env $(PEERS)/.made  ## us beside our peers in one run, figures as text and as JSON in .bench: BENCH="noop" is one part; BENCH_ARGS
	@for part in $(BENCH); do nice -n 5 $(BIN)/python -m tests.bench.$$part $(BENCH_ARGS) || exit 1; echo; done

$(PEERS)/.made: tests/bench/requirements-peers.lock
	@echo "making $(PEERS) for the peers"
	@python="$$($(FIND_PYTHON))"; "$$python" -m venv --clear $(PEERS)
	@$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r tests/bench/requirements-peers.lock
	@touch $@

bench-ready: env  ## how long a cold tester takes, beside what nobody can avoid; BENCH_ARGS=--sockets over real HTTP and SSH
	@$(BIN)/python -m tests.bench.ready $(BENCH_ARGS)

bench-api: env  ## what the API, its stream and the pages cost with a thousand testers
	@$(BIN)/python -m tests.bench.api
	@$(BIN)/python -m tests.bench.pages

bench-replicas: env  ## 1, 2 and 4 replicas on one PostgreSQL: passes, take-over, wake-ups
	@$(BIN)/python -m tests.bench.replicas $(BENCH_ARGS)
	@$(BIN)/python -m tests.bench.taken_at_rest

crowd: env  ## three replicas and 200 testers under every fault, seeded; CROWD_ARGS="--testers 600 --seed 2"
	@$(BIN)/python -m tests.replicas.crowd $(CROWD_ARGS)

screenshots: env  ## every page of the dashboard, light, dark and on a phone, into docs/screens; SHOT= takes those whose name begins so
	@$(BIN)/python -m tests.browser.screens $(SHOT)

bench-month: env  ## the memory of a simulated month of fifty testers, day by day: some six minutes of one core
	@$(BIN)/python -m tests.bench.month $(BENCH_ARGS)

worlds: env  ## seeded worlds under every fault: N= SEED= TESTERS= DAYS=, or REPLAY=file; see docs/worlds.md
	@$(BIN)/python -m tests.worlds --worlds $(N) --seed $(SEED) --testers $(TESTERS) --days $(DAYS) \
		$(if $(REPLAY),--replay $(REPLAY)) $(WORLDS_ARGS)

edits: env  ## specs edited in any order by a state machine, and lived: N= SEED=; see docs/worlds.md
	@$(BIN)/python -m tests.worlds.any_order --stories $(N) --seed $(SEED)

crash-points: env  ## the process dies at every boundary of six lives, and twice at some: about ten minutes of two cores
	@$(BIN)/python -m tests.worlds.crash_points --doubles $(DOUBLES) --seed $(SEED)

lock: env  ## choose dependencies anew within the bounds of pyproject.toml
	@$(BIN)/uv pip compile --quiet --universal --upgrade --python-version 3.11 --extra dev --generate-hashes --no-header \
		--no-annotate --no-emit-index-url pyproject.toml -o requirements.lock
	@$(BIN)/uv pip compile --quiet --universal --upgrade --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--no-emit-index-url tests/bench/requirements-peers.in -o tests/bench/requirements-peers.lock

clean:  ## throw away what can be made again: environment, caches, the demo's world
	@rm -rf $(VENV) $(PEERS) .bench .demo .worlds .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist *.egg-info
	@find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +
