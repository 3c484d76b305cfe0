# Two commands do everything a newcomer needs: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-real test-load check reference setup clean

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

test-real: setup
	@$(BIN)/python -m pytest -n auto --dist loadfile -m real

test-load: setup
	@$(BIN)/python -m pytest -m load

check: setup
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

# A page for each parameter: type, defaults by release, readers, our support, the scenarios that prove it.
reference: setup
	@$(BIN)/python tools/build_reference.py build/reference

clean:
	rm -rf $(VENV) build dist *.egg-info
