# Everything a newcomer or CI runs. `make demo` and `make test` work on a machine with python3 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow lint check format clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.stamp-dev ## make the environment in .venv, with training and development tools

demo: $(VENV)/.stamp-base ## generate one patient with the shipped weights into demo/
	$(BIN)/cinesynth generate --diagnosis DCM --edv 280 --ef 25 --slices 10 --frames 30 --seed 7 --out demo/ --overwrite

test: $(VENV)/.stamp-dev ## run the tests, with coverage
	$(BIN)/python -m pytest --cov --cov-report=term

test-slow: $(VENV)/.stamp-dev ## run the tests that take minutes
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.stamp-dev ## ruff, mypy and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test ## everything before a commit

format: $(VENV)/.stamp-dev ## let ruff rewrite the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove the environment, caches and the demo
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage demo

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# The stamps date from the last installation: a newer pyproject.toml installs again.
$(VENV)/.stamp-base: pyproject.toml | $(BIN)/python
	$(PIP) install -e .
	@touch $@

$(VENV)/.stamp-dev: pyproject.toml | $(BIN)/python
	$(PIP) install -e ".[all,dev]"
	@touch $(VENV)/.stamp-base $@
