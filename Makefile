SHELL := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-builtin-rules --no-print-directory
.DELETE_ON_ERROR:
.ONESHELL:
.SILENT:

PYTHON ?= python3.11
BIN := .venv/bin
INSTALLED := .venv/.installed
# Stands while an installation is under way: one that was cut short is not trusted, but made anew.
UNFINISHED := .venv/.unfinished
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input --quiet

.PHONY: help
help:  ## Show what can be made.
	grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 12

.PHONY: install
install: $(INSTALLED)  ## Make .venv with everything in it, Java and Kafka included; checksums are verified.

$(INSTALLED): pyproject.toml requirements.lock jgo.lock.toml Makefile
	command -v $(PYTHON) > /dev/null || { echo "$(PYTHON) is needed; name another one with make PYTHON=…" >&2; exit 1; }
	if [ -e $(UNFINISHED) ] || ! $(BIN)/python -c '' 2> /dev/null; then
		echo "making .venv"
		rm -rf .venv
		$(PYTHON) -m venv .venv
	fi
	touch $(UNFINISHED)
	echo "installing the Python packages of requirements.lock"
	# The lock is complete, so nothing is resolved; every file must have a hash of the lock. uv is the faster one, and
	# is itself installed by its hash; pip knows the proxies and mirrors that were set up for pip.
	sed -n '/^uv==/,/^    # via/p' requirements.lock > .venv/uv.lock
	$(PIP) install --no-deps --require-hashes -r .venv/uv.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode \
		--no-deps --require-hashes -r requirements.lock \
		|| { echo "uv could not, trying pip"; $(PIP) install --no-deps --require-hashes -r requirements.lock; }
	$(PIP) install --no-deps --no-build-isolation --no-index --editable .
	echo "fetching Apache Kafka"
	$(BIN)/python -m incident_pipelines.stack.jars
	rm -f $(UNFINISHED)
	touch $(INSTALLED)

.PHONY: up
up: install  ## Set everything up and run the stack with the example feeding it; Ctrl-C stops it.
	exec $(BIN)/incident-pipelines up

.PHONY: down
down: install  ## Stop the stack.
	$(BIN)/incident-pipelines down

.PHONY: test
test: install  ## Run the tests, without the drills: two workers, each with a stack of its own.
	$(BIN)/python -m pytest -n 2 --dist worksteal

.PHONY: check
check: install  ## Lint, types, layers, definitions, fast tests.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports
	# In a home of its own: the instance of this folder's dagster.yaml needs a running PostgreSQL.
	home=$$(mktemp -d)
	trap 'rm -rf "$$home"' EXIT
	printf 'telemetry:\n  enabled: false\n' > "$$home/dagster.yaml"
	DAGSTER_HOME="$$home" $(BIN)/dg check defs
	$(BIN)/python -m pytest -n 2 -m "not stack and not drill"

.PHONY: drills
drills: install  ## Run the long tests: kills at random, many times.
	$(BIN)/python -m pytest -m drill --timeout=3600
	# 200 sequences of everything that can happen, in any order; and proof that the tests notice what is taken out.
	MODEL_SEQUENCES=200 $(BIN)/python -m pytest incident_pipelines_tests/scenarios/test_model.py --timeout=3600
	$(BIN)/python -m incident_pipelines_tests.property_8

.PHONY: bench
bench: install  ## Measure, and print the ratio to the reference of the same run.
	for file in $$(grep -l '__main__' bench/*.py); do
		echo "== $$file"
		$(BIN)/python -m "bench.$$(basename "$$file" .py)"
	done

.PHONY: lock
lock: install  ## Choose the versions anew: requirements.lock from pyproject.toml, jgo.lock.toml from jgo.toml.
	$(BIN)/uv pip compile --quiet --upgrade --python-version 3.11 --extra stack --extra dev --generate-hashes \
		pyproject.toml -o requirements.lock
	$(BIN)/python -m incident_pipelines.stack.jars lock
