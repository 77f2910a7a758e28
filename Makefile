# Each target builds .venv when it is missing or older than pyproject.toml.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CUTOUTS ?=
# Numba compiles for CUDA on Linux alone.
EXTRAS := dhs,test,bench,lint,docs
ifeq ($(shell uname),Linux)
EXTRAS := cuda,$(EXTRAS)
endif

# Numba cannot see that a kernel changed in a file that another one imports, so
# the cache of compiled kernels is named by all of their sources.
export NUMBA_CACHE_DIR := $(CURDIR)/.cache/numba-$(shell cat kernels/*.py | sha256sum | cut -c1-12)

.PHONY: help demo test test-slow test-gpu test-docs fuzz soak docs report bench bench-compare \
  bench-check bench-history bench-injection bench-grid lint format clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

$(STAMP): pyproject.toml setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[$(EXTRAS)]'
	touch $@

demo: $(STAMP)  ## the whole way on simulated data, to a report in demo/report.html (CUTOUTS=DIR)
	$(BIN)/python examples/normalise.py --out demo $(if $(CUTOUTS),--cutouts '$(CUTOUTS)')
	$(BIN)/dhs simulate --out demo/survey --n 1200
	$(BIN)/dhs inject --hosts '$(or $(CUTOUTS),demo/survey)' --theta-e 1.5 --r-mag 22 --limit 4 --out demo/arcs.png
	$(BIN)/dhs train configs/demo_bottlenecked_resnet.yaml --set dataset.parquet_path=demo/survey \
	  --set train.out_dir=demo/training --set train.epochs=5 --set train.batch_size=32
	$(BIN)/dhs score demo/training/best.safetensors demo/survey --out demo/scores.parquet
	$(if $(CUTOUTS),$(BIN)/dhs score demo/training/best.safetensors '$(CUTOUTS)' --out demo/cutouts.parquet)
	$(BIN)/dhs evaluate demo/scores.parquet --truth demo/survey --fpr 0.05 --out demo/evaluation
	$(BIN)/dhs grid configs/demo_grid.yaml
	$(BIN)/dhs methods demo/training/best.safetensors --grid demo/grid --out demo/methods.md
	$(BIN)/dhs audit demo || test $$? -eq 1  # simulated data cannot fulfil the plan
	$(BIN)/dhs report demo --out demo/report.html

test: $(STAMP)  ## run the tests
	$(BIN)/python -m pytest

test-slow: $(STAMP)  ## run the tests that take long: kills and restarts, reports of compiled kernels
	$(BIN)/python -m pytest -m slow

fuzz: $(STAMP)  ## give every reader broken files, 20 minutes long (FUZZ_SECONDS, FUZZ_SEED)
	FUZZ_SECONDS=$${FUZZ_SECONDS:-1200} FUZZ_SEED=$${FUZZ_SEED:--1} $(BIN)/python -m pytest -m fuzz tests/faults/fuzz

soak: $(STAMP)  ## run a grid under drawn faults, 10 minutes long (DHS_SOAK_SECONDS, DHS_SOAK_SEED)
	DHS_SOAK_SECONDS=$${DHS_SOAK_SECONDS:-600} $(BIN)/python -m pytest -m soak

test-gpu: $(STAMP)  ## run the tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu

test-docs: $(STAMP)  ## run every code block of the README and the documentation
	$(BIN)/python -m pytest -m docs

docs: $(STAMP)  ## build the documentation into build/docs; a warning is an error
	$(BIN)/sphinx-build -W --keep-going -q -b html docs build/docs

report: $(STAMP)  ## compile the GPU kernels for every architecture, and model what they cost
	$(BIN)/python -m benchmarks.gpu_model

bench: $(STAMP)  ## time every backend against its peers, in one run, which is kept in .benchmarks
	$(BIN)/python -m benchmarks

bench-compare: $(STAMP)  ## what moved between the last two runs, or OLD=FILE NEW=FILE
	$(BIN)/python -m benchmarks.compare $(if $(OLD),'$(OLD)') $(if $(NEW),'$(NEW)')

bench-check: $(STAMP)  ## hold the ratios of a short run within their bounds
	$(BIN)/python -m benchmarks --quick --check

bench-history: $(STAMP)  ## draw all runs that were kept
	$(BIN)/python -m benchmarks.history

bench-injection: $(STAMP)  ## time the renderer of lensed sources against lenstronomy and caustics
	$(BIN)/python -W ignore -m benchmarks.injection

bench-grid: $(STAMP)  ## time injection and recovery against a loop over stamps, and model it on GPUs
	$(BIN)/python -W ignore -m benchmarks.grid
	$(BIN)/python -W ignore -m benchmarks.scaling

lint: $(STAMP)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)  ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the environment and every cache, but not the runs in .benchmarks
	rm -rf $(VENV) .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis demo build *.egg-info
