# Two commands do everything a newcomer needs: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-real test-load check compat compat-live compat-pages record mutate reference setup clean

setup: $(VENV)/ready

$(VENV)/ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "postfixpy needs Python 3.11 or later; $(PYTHON) is $$($(PYTHON) -V). Use: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "cannot make a virtual environment: on Debian, install python3-venv"; exit 1; }
	@$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

demo: setup
	@$(BIN)/python tools/demo.py

test: setup
	@$(BIN)/python -m pytest -n auto -m 'not real and not load'

# Most of the time these wait for the real Postfix: two at a time for each core.
test-real: setup
	@$(BIN)/python -m pytest -n $$(($$(nproc) * 2)) --dist loadfile -m real

test-load: setup
	@$(BIN)/python -m pytest -m load

check: setup
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

# Every scenario that was recorded from the real Postfix, with our client: in memory; as a process (needs root).
compat: setup
	@$(BIN)/python tools/replay.py

compat-live: setup
	@$(BIN)/python tools/replay.py --live

# Mistakes in our client, one at a time: each must be noticed by some scenario.
mutate: setup
	@$(BIN)/python tools/mutate.py

# Record all scenarios again from every installed Postfix (root; tools/real_root.py installs): nothing may differ.
record: setup
	@$(BIN)/python tools/record_smtp.py --write compat/scenarios
	@$(BIN)/python tools/record_system.py --write
	@git diff --stat --exit-code compat/scenarios compat/systems

# Generated from scenarios and recordings: compat/DIFFERENCES.md, COVERAGE.md, coverage.json.
compat-pages: setup
	@$(BIN)/python tools/differences.py
	@$(BIN)/python tools/coverage.py

# A page for each parameter: type, defaults by release, readers, our support, the scenarios that prove it.
reference: setup
	@$(BIN)/python tools/build_reference.py build/reference

clean:
	rm -rf $(VENV) build dist *.egg-info
