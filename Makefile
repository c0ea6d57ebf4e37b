# The few commands people type. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help

CACHE := $(or $(COMPUTEPOOL_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/computepool)
UV := $(or $(shell command -v uv),$(CACHE)/uv/bin/uv)
UV_VERSION := 0.13.9
PYTHON := .venv/bin/python
DEMO_STATE := $(or $(COMPUTEPOOL_DEMO),/tmp/computepool-demo-$(shell id -u))
export PYTHONPATH := tests

.PHONY: help
help: ## List the commands.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: .venv/.synced ## Bring up a cluster and a simulated compute API, and let a pool work off its Tasks.
	@$(PYTHON) -m demo up --state $(DEMO_STATE)

.PHONY: demo-down
demo-down: .venv/.synced ## Take the demo down; nothing of it is left.
	@$(PYTHON) -m demo down --state $(DEMO_STATE)

.PHONY: test
test: lint ## Check everything: lint, and all tests in a few processes side by side.
	@$(PYTHON) -m lanes $(LANES)

.PHONY: unit
unit: .venv/.synced ## Run the tests that need no cluster.
	@$(PYTHON) -m pytest tests/unit tests/contract tests/long tests/processes

.PHONY: month
month: .venv/.synced ## Simulate a month of a pool in a minute; SEED=n for another one.
	@$(PYTHON) -m month --days 30 --seed $(or $(SEED),1)

.PHONY: soak
soak: .venv/.synced ## Kill and cut everything at random on a real cluster, for SOAK_MINUTES (10).
	@SOAK_MINUTES=$(or $(SOAK_MINUTES),10) $(PYTHON) -m pytest -s tests/e2e/test_soak.py

.PHONY: lint
lint: .venv/.synced ## Check form, types and layers.
	@.venv/bin/ruff check
	@.venv/bin/ruff format --check
	@.venv/bin/mypy
	@.venv/bin/lint-imports --no-logo

.PHONY: format
format: .venv/.synced ## Put the code in form.
	@.venv/bin/ruff check --fix
	@.venv/bin/ruff format

.PHONY: crd
crd: .venv/.synced ## Generate the CRD and the pool reference from the models.
	@$(PYTHON) -m computepool_operator.crd > crds/computepools.yaml
	@$(PYTHON) -m computepool_operator.crd --reference > docs/pool-reference.md

.PHONY: bench
bench: .venv/.synced ## Measure the worker; BENCH='--stock-python P' compares it (python -m bench --help).
	@$(PYTHON) -m bench $(BENCH)

.PHONY: images
images: .venv/.synced ## Build the images of operator and worker.
	@$(PYTHON) -m testcluster images --install

.venv/.synced: pyproject.toml uv.lock | $(UV)
	@$(UV) sync --quiet --locked --all-extras
	@touch $@

$(CACHE)/uv/bin/uv:
	@python3 -c 'import ensurepip, venv' 2>/dev/null || { \
	  [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && apt-get install -qq --yes python3-venv; } || { \
	  echo "Python 3.11 or later with venv is needed (Debian: apt-get install python3-venv)" >&2; exit 1; }
	@python3 -m venv $(CACHE)/uv
	@$(CACHE)/uv/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
