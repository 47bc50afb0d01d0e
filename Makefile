# microtome: `make demo`, `make test`, `make check`, `make bench`. Each sets up what it needs in .venv; a second run is instant.
SHELL := /bin/bash
PYTHON ?= python3
# the torch that is installed when .venv has none; TORCH="torch --index-url …" picks another build
TORCH ?= $(shell grep '^torch==' constraints.txt)
SERVE ?= 1
# test processes at once, each on one thread
JOBS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$((n > 4 ? 4 : n)))
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps
JS := web-tools
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

export OMP_WAIT_POLICY ?= passive
# the processes that tests start find bytecode
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test check bench docs format install dev chromium js clean

help:  ## Say what can be made
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 18

demo: $(STAMPS)/package  ## From nothing to explored features in the browser (SERVE=0: end after the report)
	@$(BIN)/microtome demo $(if $(filter 0 no false,$(SERVE)),--no-serve)

test: $(STAMPS)/dev chromium  ## All tests that need no GPU; those that drive the pages need Chromium
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder --durations=25 --durations-min=5

check: $(STAMPS)/dev js  ## Format, lint, types (Python and JavaScript), import contract, limits, docs
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/pyright
	@$(BIN)/lint-imports
	@$(BIN)/python -m pytest -q -p no:cacheprovider tests/test_docs.py tests/test_style.py

bench: $(STAMPS)/dev  ## Measure every figure against its peer; rewrites bench/results.jsonl and the table in bench/README.md
	@$(BIN)/python bench/run.py

docs: $(STAMPS)/package  ## Rewrite the generated pages
	@$(BIN)/python tools/cli_reference.py

format: $(STAMPS)/dev  ## Format, and fix what lint can fix
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

install: $(STAMPS)/package  ## Only set up .venv

dev: $(STAMPS)/dev  ## Set up .venv with the tools for development

clean:  ## Remove .venv and what tools left behind (keeps workspaces)
	rm -rf $(VENV) $(JS)/node_modules .pytest_cache .ruff_cache .import_linter_cache

$(STAMPS)/venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "microtome needs Python 3.11 or newer; \"$(PYTHON)\" is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.11" >&2; exit 1; }
	@test -x $(BIN)/python || { echo "setting up $(VENV) …"; $(PYTHON) -m venv $(VENV) || { \
	  echo "Python cannot make virtual environments here; on Debian: apt-get install python3-venv" >&2; rm -rf $(VENV); exit 1; }; }
	@$(PIP) install --upgrade "pip>=25.1"
	@mkdir -p $(STAMPS) && touch $@

# torch first and by itself: asked for as a range, pip may choose a newer build with gigabytes of GPU libraries
$(STAMPS)/torch: $(STAMPS)/venv
	@$(BIN)/python -c 'from importlib.metadata import version; version("torch")' 2>/dev/null || { echo "installing $(TORCH) …"; $(BIN)/python -m pip --disable-pip-version-check install $(TORCH); }
	@touch $@

$(STAMPS)/package: $(STAMPS)/torch pyproject.toml constraints.txt
	@echo "installing microtome and what it needs …"
	@$(PIP) install -c constraints.txt -e .
	@touch $@

$(STAMPS)/dev: $(STAMPS)/package
	@echo "installing the tools for development …"
	@$(PIP) install -c constraints.txt --group dev
	@touch $@

chromium:
	@if ! command -v chromium chromium-browser google-chrome >/dev/null; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "installing Chromium for the browser tests …"; \
	    { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends chromium; } >/dev/null </dev/null \
	      || echo "Chromium could not be installed: the browser tests will be skipped" >&2; \
	  else \
	    echo "no Chromium here: the browser tests will be skipped (on Debian: apt-get install chromium)" >&2; \
	  fi; \
	fi

js: $(JS)/node_modules/.stamp
	@cd $(JS) && npm run --silent check

$(JS)/node_modules/.stamp: $(JS)/package-lock.json
	@command -v npm >/dev/null || { echo "make check needs Node.js with npm for the types of the web pages (on Debian: apt-get install npm)" >&2; exit 1; }
	@echo "installing the TypeScript checker …"
	@cd $(JS) && npm ci --silent --no-audit --no-fund </dev/null
	@touch $@
