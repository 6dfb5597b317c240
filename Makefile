# Every task of the project. `make` alone lists them.
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
# uv trusts its own list of authorities; behind a proxy with one of its own, the system's list is the one to trust.
LOCKED := $(UV) pip install --quiet --python $(BIN)/python --require-hashes --requirement requirements.txt

.PHONY: help install demo test crash-test bench bench-quick check fix lock clean

help:  ## list the tasks
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

install: $(VENV)/.installed  ## set up a private .venv (about a minute)

$(VENV)/.installed: requirements.txt pyproject.toml
	python3 -c 'import sys; sys.exit(sys.version_info < (3, 11) and "firstsight needs Python 3.11 or newer")'
	python3 -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(LOCKED) || $(LOCKED) --system-certs
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

demo: install  ## the main job on real handwriting, offline; writes demo/index.html
	$(BIN)/firstsight demo

test: install  ## run the tests
	$(BIN)/python -m pytest

crash-test: install  ## hurt writers in 300 ways and at every system call (about 20 minutes)
	$(BIN)/python tests/crash/crash.py
	FIRSTSIGHT_STORIES=100 $(BIN)/python -m pytest tests/indexer/test_story.py

bench-quick: install  ## every benchmark at toy size, so that none rots (2 to 3 minutes)
	$(BIN)/python benchmarks/run.py --quick

bench: install  ## every benchmark in full, and the report of them (hours, on a quiet machine)
	$(BIN)/python benchmarks/run.py

check: install  ## ruff, mypy and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

fix: install  ## let ruff repair and format what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: install  ## write requirements.txt anew from pyproject.toml
	$(UV) pip compile --quiet --universal --upgrade --generate-hashes --no-header --no-annotate --no-emit-index-url \
		--no-emit-find-links --group dev --extra demo pyproject.toml --output-file requirements.txt

clean:  ## remove what the tasks made
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis demo
