# `make demo` shows what tombola does; `make test` is what CI runs; `make docs` builds the site of the
# documentation into site/. All set up first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
# One torch thread a process: two processes beat two threads on small networks, and sums do not
# depend on how many cores there are.
export OMP_NUM_THREADS := 1

.PHONY: setup demo test lint docs clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt setup.py $(wildcard tombola/kernels/*.[ch])
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[data,fast,transformers,onnx,tensorboard,mlflow,docs,dev]"
	touch $(STAMP)

demo: setup
	$(BIN)/tombola find imp --on digits --seeds 5 --arms dense,ticket,reinit,shuffle

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The theme warns of a release of mkdocs that constraints.txt keeps away.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

test: lint
	$(BIN)/python -m pytest -n 2

clean:
	rm -rf $(VENV) site .mypy_cache .ruff_cache .pytest_cache .hypothesis
