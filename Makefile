# make demo | test | lint | docs | clean. Everything is installed into .venv; PYTHON names the interpreter it is made with.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
READY := $(VENV)/.ready
PYTEST_ARGS ?=
# Where nothing compiled may be written, TensorFlow takes three times as long to import, in every process anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test lint docs clean

demo: $(INSTALLED)
	$(BIN)/ofa-tf demo

test: $(READY)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/mypy
	$(BIN)/mypy benchmarks/*.py

docs: $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[docs]' -c constraints.txt
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

clean:
	rm -rf $(VENV) .venv-other build dist site *.egg-info ofa-demo .pytest_cache .mypy_cache .ruff_cache .hypothesis

# What running needs, and, on top of it, what tests need.
$(INSTALLED): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("ofa-tf needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.11") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile -e . -c constraints.txt # Python compiles what it loads
	touch $@

$(READY): $(INSTALLED)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]' -c constraints.txt
	@# Tests hold exported files against this one; docs/dependencies.md says why it is installed on its own.
	@if $(BIN)/python -c 'import sys; sys.exit(sys.version_info >= (3, 12))'; then \
	  $(BIN)/pip install --quiet --disable-pip-version-check --no-deps tflite-support==0.4.4; \
	fi
	touch $@
