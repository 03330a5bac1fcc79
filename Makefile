# make run    sets everything up, starts a cell, runs the examples and prints what they print
# make test   sets everything up and runs all tests
# make check  ruff, mypy --strict, import-linter
# make bench  every benchmark, each with a ratio against a peer or a physical limit
SHELL := /bin/bash
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed

.PHONY: setup run stop test unit check bench lock man clean

setup: system $(STAMP)

.PHONY: system
system:
	@scripts/system-packages

$(STAMP): requirements.lock pyproject.toml scripts/make-venv
	@scripts/make-venv $(VENV)
	@touch $@

run: setup
	@scripts/run-examples

stop:
	@$(VENV)/bin/corral down

test: setup check
	$(PY) -m pytest

unit: $(STAMP)
	$(PY) -m pytest tests/unit

check: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

bench: setup
	$(PY) bench/run.py

lock:
	$(VENV)/bin/pip-compile --quiet --extra dev --extra cel --strip-extras --allow-unsafe --no-emit-index-url \
	  --no-emit-find-links --no-emit-trusted-host --no-header --no-annotate --output-file requirements.lock pyproject.toml

man: $(STAMP)
	$(PY) tools/make_man.py docs/man/corral.1

clean:
	rm -rf $(VENV) build dist src/*.egg-info
