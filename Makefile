# make repro   set up and reproduce the pipeline
# make test    set up and run everything that CI runs
# make lab     set up and open JupyterLab
# make bench   set up and measure what a meta-gradient costs here, about twenty minutes
# make setup   the part they share: VENV=path uses (or makes) another environment

VENV ?= .venv
PYTHON ?= python3
BIN := $(abspath $(VENV))/bin
export PATH := $(BIN):$(PATH)
# This clone's library, whichever clone the environment was installed from.
export PYTHONPATH := $(CURDIR)

.PHONY: setup repro test bench lab missing

# Stamps live in the clone: several clones may share an environment.
INSTALLED := .make/installed$(subst /,-,$(abspath $(VENV)))

setup: $(INSTALLED) .make/pulled

$(INSTALLED): pyproject.toml constraints.txt $(if $(wildcard $(BIN)/python),,missing)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	mkdir -p $(@D) && touch $@

.make/pulled: data.dvc $(wildcard dvc.lock) | $(INSTALLED)
	dvc pull --allow-missing
	mkdir -p $(@D) && touch $@

repro: setup
	dvc repro
	@echo "Notebooks with their figures: rendered/*.ipynb    Images, curves, tables, networks: results/"

# By two processes of a core each, a file at a time: most of the time goes to starting kernels.
test: setup
	ruff check
	ruff format --check
	OMP_NUM_THREADS=1 pytest --nbval --numprocesses 2 --dist loadfile

bench: setup
	python -m metastyle.pipeline.run 13_speed
	@echo "rendered/13_speed.ipynb    results/speed/benchmark.json"

lab: setup
	jupyter lab --config=tools/lab_config.py --notebook-dir=notebooks
