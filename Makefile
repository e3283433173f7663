# make demo and make test do all the set-up themselves: Python 3.11+, pip and a C compiler are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: venv demo test mutants lint clean

venv: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

demo: venv
	$(BIN)/apatite demo -o demo

test: venv
	$(BIN)/pytest -n 2 -q

mutants: venv
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python tests/faults/plant.py

lint: venv
	$(BIN)/ruff check --no-cache src tests benchmarks
	$(BIN)/ruff format --no-cache --check src tests benchmarks
	$(BIN)/pyright
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) demo build dist
