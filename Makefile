# `make demo` and `make test` do all their own set-up in .venv; the rest is for people who work on ih_lens.
PYTHON ?= python3
BIN := .venv/bin
export HF_HUB_OFFLINE ?= 1
export NO_MKDOCS_2_WARNING = 1

.PHONY: demo clamp-demo bench notebooks soak fuzz determinism test lint types docs check test-oldest test-bridges clean

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ih_lens needs Python 3.11 or newer; run: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: .venv/installed
	$(BIN)/ih-lens demo $(ARGS)

clamp-demo: .venv/installed
	$(BIN)/ih-lens clamp-demo $(ARGS)

# Sets up its environment like `make demo`; about 35 minutes on 2 cores with nothing else running.
bench: .venv/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks $(ARGS)

# Writes the notebooks of demos/ from their twins, and runs them; ARGS names some of them.
notebooks: .venv/installed-dev
	$(BIN)/python -m demos.execute $(ARGS)

# Trainings and tables that are killed, frozen and run out of disk, for about a quarter of an hour; see docs/scaling.md.
soak: .venv/installed-dev
	$(BIN)/python -m tests.soak $(ARGS)

# Every reader of files under atheris for a minute each; ARGS="--seconds 600 run_record" for one, for longer.
fuzz: .venv/installed-dev
	$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[fuzz]'
	$(BIN)/python -m tests.fuzz $(ARGS)

# How far numbers lie apart between sets of instructions; see docs/reproducing.md.
determinism: .venv/installed-dev
	$(BIN)/python -m tests.instruction_sets $(ARGS)

test: .venv/installed-dev
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/installed-dev
	$(BIN)/basedpyright --pythonpath $(BIN)/python

# Not --quiet: --strict does not count what that hides.
docs: .venv/installed-dev
	$(BIN)/mkdocs build --strict

check: lint types test docs

# The oldest versions of all dependencies, which are resolved for Python 3.11. From PyPI that torch brings 5 GB of CUDA
# packages; a build without them, if pip is given one, is taken as well.
.venv-oldest/installed: pyproject.toml constraints-oldest.txt
	python3.11 -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install -qq --disable-pip-version-check -c constraints-oldest.txt -e '.[dev]'
	touch $@

test-oldest: .venv-oldest/installed
	.venv-oldest/bin/python -m pytest -n 2 --dist loadfile $(ARGS)

# transformer-lens 4.x, which the package's own requirements exclude; 3.9 in .venv gives the numbers to compare with.
.venv-bridges/installed: pyproject.toml constraints.txt tests/bridges_4x/requirements.py
	$(PYTHON) -m venv .venv-bridges
	$(PYTHON) tests/bridges_4x/requirements.py > .venv-bridges/requirements.txt
	.venv-bridges/bin/python -m pip install -qq --disable-pip-version-check -c constraints.txt -r .venv-bridges/requirements.txt
	.venv-bridges/bin/python -m pip install -qq --disable-pip-version-check --no-deps -e .
	touch $@

test-bridges: .venv/installed-dev .venv-bridges/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.bridges_4x.measured .venv-bridges/reference
	IH_LENS_REFERENCE=.venv-bridges/reference .venv-bridges/bin/python -m pytest -n 2 tests/bridges_4x $(ARGS)

clean:
	rm -rf .venv .venv-oldest .venv-bridges site
