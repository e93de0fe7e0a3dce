.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Three at once on two cores: the tests of services and processes mostly wait.
PYTEST := $(BIN)/python -m pytest -q --durations=5 -n 3

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1

# An empty tier is passed over; a tier with tests must pass.
define tier
	@if ls $(foreach folder,$(1),tests/$(folder)/test_*.py) >/dev/null 2>&1; then \
		echo "== tests: $(1)"; SECONDS=0; \
		$(PYTEST) $(foreach folder,$(1),tests/$(folder)) </dev/null && echo "== $(1): $${SECONDS} s"; \
	else echo "== tests: $(1): none yet"; fi
endef

.PHONY: help venv demo up test check format bench chaos clean

help:  ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

venv: $(STAMP)  ## install everything into .venv, at the pinned versions

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Shunter needs Python 3.11 or newer: make venv PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "== installing into $(VENV) (some minutes the first time)"
	@$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]' </dev/null
	@touch $@

demo: $(STAMP)  ## train a model, run real images through a fleet, check every result
	@$(BIN)/shunter demo

up: $(STAMP)  ## everything on one machine, until Ctrl-C
	@$(BIN)/shunter up

test: check  ## every check and every test
	$(call tier,unit contract)
	$(call tier,integration)
	$(call tier,acceptance)
	@echo "== tests: faults"; SECONDS=0; $(BIN)/python -m tests.faults </dev/null && echo "== faults: $${SECONDS} s"

check: $(STAMP)  ## lint, format, types and the borders between packages
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check . || { echo "Run: make format"; exit 1; }
	@$(BIN)/mypy
	@report=$$($(BIN)/lint-imports --no-logo) || { echo "$$report"; exit 1; }; tail -n 1 <<<"$$report"

format: $(STAMP)  ## format the code and sort its imports
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format --quiet .

bench: $(STAMP)  ## measure limits and peers, side by side: SETS="items lone" QUICK=1 REPEATS=5
	@$(BIN)/python -c 'import matplotlib, pyarrow' 2>/dev/null || $(BIN)/python -m pip install -q -c constraints.txt -e '.[bench]' </dev/null
	@$(BIN)/python -m benchmarks $(SETS) $(if $(QUICK),--quick) $(if $(REPEATS),--repeats $(REPEATS)) </dev/null

chaos: $(STAMP)  ## kill everything, count what was lost: SEED=1 MINUTES=5 TRIES=220
	@$(BIN)/python -m tests.faults.chaos --seed $(or $(SEED),0) --minutes $(or $(MINUTES),5) </dev/null
	@$(BIN)/python -m tests.faults.mutations </dev/null
	@$(BIN)/python -m tests.faults.campaign --seed $(or $(SEED),0) --tries $(or $(TRIES),220) </dev/null
	@FAULTS=full $(BIN)/python -m tests.faults --at-once 2 </dev/null

clean:  ## remove what was built, the virtual environment included
	@rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
