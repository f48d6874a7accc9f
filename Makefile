# Every task of this project, for people and for continuous integration alike. `make` alone lists them.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
BENCH := $(VENV)/bench
TOOLS := $(VENV)/tools
PIP := python -m pip --disable-pip-version-check --no-input -qq
# Only wheels with the hashes of the lock files: no code of a package runs while it is installed.
INSTALL := $(PIP) install --require-hashes --only-binary :all:

# PYTHON=python3.12 selects the interpreter of the virtual environment; by default the first of these that is recent enough.
PYTHONS = $(or $(PYTHON),python3 python3.13 python3.12 python3.11)
CONFIG ?= config.yaml
SECONDS ?= 60

.PHONY: help setup demo run test peers coverage mutants check fmt fuzz soak fleet bench bench-quick image image-test test-image-python schema tables lock dist sbom audit clean

help: ## List the tasks
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/run.stamp ## See the proxy at work between an app and fakes of both servers (ARGS=--once: end by itself)
	@$(BIN)/switch-proxy demo $(ARGS)

test: check ## Check everything and run all tests (ARGS="tests/core -k token": only some)
	@$(BIN)/python -m pytest --numprocesses auto --dist worksteal $(ARGS)

peers: ## Install npm's packages for the tests with real clients and servers, which are skipped without them (needs npm)
	@npm ci --prefix tests/e2e/peers --ignore-scripts --no-audit --no-fund --loglevel=error

coverage: $(VENV)/dev.stamp ## Measure which branches of the core its own tests take: it must be all of them
	@COVERAGE_FILE=$(VENV)/coverage $(BIN)/coverage run -m pytest --quiet --no-header tests/core $(ARGS) >$(VENV)/core-tests.txt || { cat $(VENV)/core-tests.txt; exit 1; }
	@COVERAGE_FILE=$(VENV)/coverage $(BIN)/coverage report

mutants: $(VENV)/dev.stamp ## Change the code in ways that matter; the tests must notice each (ARGS="-k pool": only some)
	@$(BIN)/python -m tools.mutants $(ARGS)

run: $(VENV)/run.stamp ## Run the proxy against real servers (CONFIG=config.yaml)
	@$(BIN)/switch-proxy run --config '$(CONFIG)'

setup: $(VENV)/dev.stamp ## Make the virtual environment .venv with everything that the other tasks need

# Each tool runs whatever the others say: a broken import contract is not hidden behind a lint complaint.
check: $(VENV)/dev.stamp ## Check lint rules, formatting, types and the direction of imports
	@failed=; \
	$(BIN)/ruff check --quiet || failed="$$failed lint"; \
	$(BIN)/ruff format --check --quiet || { $(BIN)/ruff format --diff --quiet; failed="$$failed format(make fmt)"; }; \
	$(BIN)/mypy --no-error-summary || failed="$$failed types"; \
	$(BIN)/lint-imports --no-logo >$(VENV)/imports.txt || { cat $(VENV)/imports.txt; failed="$$failed imports"; }; \
	[ -z "$$failed" ] || { echo "make check failed:$$failed" >&2; exit 1; }

fmt: $(VENV)/dev.stamp ## Format the code, and fix what the linter can fix
	@$(BIN)/ruff check --fix-only --quiet
	@$(BIN)/ruff format

fuzz: $(VENV)/dev.stamp ## Fuzz both parsers and whole exchanges (SECONDS=60; SEED=1 repeats a run)
	@$(BIN)/python -m fuzz --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) $(ARGS)

soak: $(VENV)/dev.stamp ## Load the proxy while its token requests fail in every way; no request may fail (SECONDS=300; ARGS=--bad-peers: its peers misbehave too)
	@$(BIN)/python -m soak --seconds $(SECONDS) $(ARGS)

fleet: $(VENV)/dev.stamp ## Simulate fleets of up to 100,000 processes, and write docs/fleet.md and docs/fleet.svg (ARGS=--quick: print)
	@$(BIN)/python -m benchmarks.fleet $(ARGS)

bench: $(BENCH)/stamp ## Compare with Envoy, nginx and a tutorial's proxy, and write benchmarks/RESULTS.md
	@$(BENCH)/bin/python benchmarks/run.py --write $(ARGS)

bench-quick: $(BENCH)/stamp ## Compare with Envoy in a few minutes, and print to the terminal
	@$(BENCH)/bin/python benchmarks/run.py --systems switch-proxy,envoy --rounds 2 $(ARGS)

# podman and buildah need docker's format, because OCI's has no health check.
BUILDER = $(or $(shell command -v docker || command -v podman || command -v buildah),\
  $(error make image needs docker, podman or buildah))
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' proxy/switch_proxy/__init__.py)

image: ## Build the container image (TAG=switch-proxy, BASE=python:3.13-slim) with docker, podman or buildah
	$(BUILDER) build $(if $(findstring docker,$(BUILDER)),,--format docker) --tag '$(or $(TAG),switch-proxy:$(VERSION))' \
	  $(if $(BASE),--build-arg BASE='$(BASE)') --build-arg VERSION=$(VERSION) \
	  --build-arg REVISION=$$(git rev-parse HEAD) --build-arg CREATED=$$(git show --no-patch --format=%cI) .

image-test: $(VENV)/dev.stamp ## Build the image with buildah on a base from debootstrap, and run it (root, some minutes)
	@IMAGE_TEST=1 $(BIN)/python -m pytest tests/image $(ARGS)

test-image-python: $(VENV)/dev.stamp ## Run all tests on the image's Python, in a root folder from debootstrap (root, some minutes)
	@$(BIN)/python -m tools.python_root $(ARGS)

schema: $(VENV)/run.stamp ## Write config.schema.json from the code
	@$(BIN)/switch-proxy schema > config.schema.json.new
	@mv config.schema.json.new config.schema.json

tables: $(VENV)/dev.stamp ## Write the generated tables of the pages from the code
	@for tables in tests.core.lifecycle_tables tests.shell.fault_matrix tests.docs.configuration_tables tests.docs.token_costs; do \
	  $(BIN)/python -m $$tables || exit 1; done

dist: $(TOOLS)/stamp ## Build wheel and sdist into dist/, and check that they are reproducible, install and run
	@$(TOOLS)/bin/python -m tools.dist $(ARGS)

sbom: $(TOOLS)/stamp ## Write the bill of materials of an installation (CycloneDX) into dist/
	@$(TOOLS)/bin/python -m tools.sbom $(ARGS)

audit: $(TOOLS)/stamp ## Look up known vulnerabilities of the proxy's dependencies (asks the package index)
	@$(TOOLS)/bin/pip-audit --strict --progress-spinner off --disable-pip --require-hashes \
	  -r requirements.lock -r requirements-build.lock $(ARGS)

# The tool is not in the environment that it resolves.
COMPILE = CUSTOM_COMPILE_COMMAND='make lock' $(VENV)/lock/bin/pip-compile --quiet --generate-hashes --allow-unsafe \
  --strip-extras --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options $(ARGS)

lock: $(BIN)/python ## Write the lock files from pyproject.toml (ARGS=--upgrade: with the newest releases)
	@$(BIN)/python -m venv $(VENV)/lock
	@$(VENV)/lock/bin/python -m pip --disable-pip-version-check --no-input -qq install pip-tools==7.6.2
	@$(COMPILE) --output-file requirements.lock pyproject.toml
	@$(COMPILE) --extra redis --constraint requirements.lock --output-file requirements-image.lock pyproject.toml
	@$(COMPILE) --only-build-deps --build-deps-for editable --output-file requirements-build.lock pyproject.toml
	@$(COMPILE) --extra dev --constraint requirements.lock --output-file requirements-dev.lock pyproject.toml
	@$(COMPILE) --constraint requirements-dev.lock --output-file benchmarks/requirements.lock benchmarks/requirements.in
	@$(COMPILE) --output-file tools/requirements.lock tools/requirements.in

clean: ## Remove the files that the other tasks made
	rm -rf $(VENV) tests/e2e/peers/node_modules build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@for python in $(PYTHONS); do \
	  "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	  "$$python" -m venv $(VENV) && exit 0; \
	  rm -rf $(VENV); \
	  echo "make: $$python could not make a virtual environment. Debian and Ubuntu have that in a package of its own:" \
	    "apt-get install python3-venv" >&2; \
	  exit 1; \
	done; \
	echo "make: switch-proxy needs Python 3.11 or later, and there is none by the name of: $(PYTHONS)." \
	  "If it has another name or path: make PYTHON=/path/to/python3 …" >&2; \
	exit 1

# The stamps record what is installed: the proxy's requirements, and those of its tests and checks.
$(VENV)/run.stamp: requirements.lock requirements-build.lock pyproject.toml | $(BIN)/python
	@echo "Installing what the proxy needs into $(VENV) …"
	@$(BIN)/$(INSTALL) -r requirements.lock -r requirements-build.lock
	@$(BIN)/$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

# forbiddenfruit, which blockbuster needs, has no wheel; it is built with the setuptools that is already installed.
$(VENV)/dev.stamp: requirements-dev.lock $(VENV)/run.stamp
	@echo "Installing what its tests need …"
	@$(BIN)/$(INSTALL) --no-binary forbiddenfruit --no-build-isolation -r requirements-dev.lock
	@touch $@

# Its own environment: a package that only the checks need (such as rich) would be imported if found, and measured.
# wrk and nginx come from the system: apt-get install wrk nginx-light
$(BENCH)/stamp: benchmarks/requirements.lock requirements.lock requirements-build.lock pyproject.toml | $(BIN)/python
	@echo "Installing what the benchmarks compare with into $(BENCH) …"
	@$(BIN)/python -m venv $(BENCH)
	@$(BENCH)/bin/$(INSTALL) -r requirements.lock -r requirements-build.lock -r benchmarks/requirements.lock
	@touch $@

# Its own environment too: these tools check what is shipped, and are not part of it.
$(TOOLS)/stamp: tools/requirements.lock requirements-build.lock | $(BIN)/python
	@echo "Installing what makes and checks releases into $(TOOLS) …"
	@$(BIN)/python -m venv $(TOOLS)
	@$(TOOLS)/bin/$(INSTALL) -r tools/requirements.lock -r requirements-build.lock
	@touch $@
