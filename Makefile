# The tasks of a developer. A machine needs Python 3.11 or newer, git and make, and npm for the tests
# against PouchDB Server; everything else is installed into .venv and tests/pouchdb/node_modules.

PYTHON ?= python3
DEMO ?=
PYTEST ?=
LOCK ?=
# Tests that run at once: three times the two cores of a small machine, because two thirds of their time is waiting. A
# real cluster is for one test at a time.
WORKERS ?= $(if $(PERUSERD_TEST_CLUSTER),0,6)

VENV := .venv
BIN := $(VENV)/bin
REQUIREMENTS := .ci/requirements.txt
# What the daemon alone needs, in the same versions: for packages and containers.
RUNTIME := .ci/requirements-runtime.txt
# What builds the wheel, likewise.
BUILD := .ci/requirements-build.txt
PIP_TOOLS := pip-tools==7.6.2
# pyproject.toml may name only Pythons that were seen to pass here.
PYTHONS ?= 3.11 3.12 3.13 3.14

# Each stamp is made last, so an installation that was cut off is done again.
PYTHON_STAMP := $(VENV)/.installed
POUCHDB := tests/pouchdb
POUCHDB_STAMP := $(POUCHDB)/node_modules/.installed

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup pouchdb demo test test-fast test-pythons coverage lint docs lock dist deb clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(PYTHON_STAMP) ## Make .venv with everything pinned in it (PYTHON=python3.12 chooses another Python)

demo: setup ## Watch peruserd serve a simulated cluster (DEMO="--stay" leaves it up until Ctrl-C)
	$(BIN)/peruserd demo --users 200 --rate 50 --once $(DEMO)

# Workers steal from each other, because a few tests take as long as a hundred others.
RUN_TESTS = -m pytest --numprocesses $(WORKERS) --dist worksteal

test: setup pouchdb ## Run all tests (PYTEST="-k names" adds options, WORKERS=0 runs them one by one)
	$(BIN)/python $(RUN_TESTS) $(PYTEST)

test-fast: setup ## Run all tests but those of whole processes and of benchmarks, with a quarter of the examples
	$(BIN)/python $(RUN_TESTS) -m 'not processes' --quick $(PYTEST)

# The script calls make itself. Without these flags that make does not look for the job server of this one.
test-pythons: setup ## Run test-fast on each Python that can be had (PYTHONS="3.12 3.13" chooses)
	@MAKEFLAGS= PIP=$(BIN)/pip .ci/test-pythons $(PYTHONS)

# Shown, and not enforced: the report comes also where tests fail (1), but not where none could be run.
coverage: setup pouchdb ## Run all tests and show which lines and branches they reach (PYTEST="tests/core" takes a part)
	$(BIN)/coverage erase
	$(BIN)/coverage run $(RUN_TESTS) $(PYTEST) || [ $$? -eq 1 ]
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage html --quiet
	@echo "The twenty least covered files, and the total; htmlcov/index.html shows each line:"
	@$(BIN)/coverage report --sort=cover | sed -n -e 1,22p -e '/^TOTAL/p'

lint: setup ## Check style, formatting, types and the layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict
	$(BIN)/lint-imports

docs: setup ## Write the tables of the documents that follow from the code
	$(BIN)/python -m peruserd.monitoring.documents docs

# The oldest Python that is supported, because a package that only it needs would be missing otherwise.
lock: setup ## Pin the dependencies anew, on Python 3.11 (LOCK=--upgrade takes newer ones)
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { \
		echo "make: the lock is made on Python 3.11, and $(VENV) has $$($(BIN)/python --version)" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet '$(PIP_TOOLS)'
	$(COMPILE) --extra dev $(LOCK) --output-file $(REQUIREMENTS) pyproject.toml
	$(COMPILE) --constraint $(REQUIREMENTS) --output-file $(RUNTIME) pyproject.toml
	$(COMPILE) --constraint $(REQUIREMENTS) --only-build-deps --build-deps-for wheel --output-file $(BUILD) pyproject.toml
	sed -i -e '1i # Made by `make lock` from pyproject.toml.' -e '/^# WARNING: /,$$d' $(REQUIREMENTS) $(RUNTIME) $(BUILD)

COMPILE = $(BIN)/python -m piptools compile --quiet --generate-hashes --strip-extras --no-header --no-annotate \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options --unsafe-package peruserd

dist: setup ## Build the source archive and the wheel into dist/
	$(BIN)/python -m hatchling build --directory dist

deb: setup ## Build the Debian package into dist/, for the release that this machine runs
	@.ci/build-deb

clean: ## Remove what the other targets made
	rm -rf .venv .venv-* $(POUCHDB)/node_modules dist htmlcov .coverage .coverage.* \
		.pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# peruserd itself is installed without its dependencies, which are there already, each with its hash checked.
$(PYTHON_STAMP): $(REQUIREMENTS) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "make: $(PYTHON) is not Python 3.11 or newer; name one that is: make PYTHON=python3.12 …" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { \
		echo "make: $(PYTHON) cannot make virtual environments; Debian has that in python3-venv" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes --requirement $(REQUIREMENTS)
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# Its optional parts are stores on disk that have to be compiled; the tests keep everything in memory.
pouchdb:
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory $(POUCHDB_STAMP); \
	else echo "make: npm is missing, so the tests against PouchDB Server will be skipped" >&2; fi

$(POUCHDB_STAMP): $(POUCHDB)/package.json $(POUCHDB)/package-lock.json
	cd $(POUCHDB) && npm ci --ignore-scripts --omit=optional --no-audit --no-fund --loglevel=error
	@touch $@
