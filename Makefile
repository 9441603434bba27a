# Everything starts from a bare checkout: `make train` and `make test` set up .venv themselves.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: train test test-all test-lowest lint notebook docs benchmark clean
.DELETE_ON_ERROR:

train: .venv/installed  ## train the default model on MNIST and write its pictures
	$(BIN)/vae train

test: .venv/installed-dev  ## every test but the slow ones
	$(BIN)/pytest -n auto --dist loadfile -m "not slow"

test-all: .venv/installed-dev  ## every test
	$(BIN)/pytest -n auto --dist loadfile

test-lowest: .venv-lowest/installed  ## train, resume and evaluate with the lowest versions that pyproject.toml allows
	.venv-lowest/bin/python tests/tools/lowest.py --try

lint: .venv/installed-dev  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

notebook: .venv/installed-dev  ## run the notebook and store its outputs in place
	$(BIN)/python notebooks/execute.py

docs: .venv/installed-docs  ## the documentation as a site, in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/python docs/site.py

benchmark: .venv-benchmark/installed  ## speed beside the rivals and the floor; minutes
	.venv-benchmark/bin/python benchmarks/speed.py

clean:
	rm -rf .venv .venv-benchmark .venv-lowest build dist .mypy_cache .pytest_cache .ruff_cache

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

.venv/installed-docs: .venv/installed
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	@touch $@

.venv-lowest/installed: pyproject.toml tests/tools/lowest.py
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python tests/tools/lowest.py > .venv-lowest/constraints.txt
	.venv-lowest/bin/python -m pip install --quiet --editable . --constraint .venv-lowest/constraints.txt
	@touch $@

.venv-benchmark/installed: pyproject.toml benchmarks/requirements.txt
	$(PYTHON) -m venv .venv-benchmark
	.venv-benchmark/bin/python -m pip install --quiet --editable . --requirement benchmarks/requirements.txt
	@touch $@
