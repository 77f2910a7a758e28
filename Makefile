# Every target rebuilds .venv if it is missing or older than pyproject.toml or setup.py; the demo
# needs less of it than the others.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIPELINE := $(VENV)/.installed_pipeline
STAMP := $(VENV)/.installed
CUTOUTS ?=
# Origin of the cutouts in the folder CUTOUTS; a pack there has its own.
ORIGIN ?= $(if $(wildcard $(CUTOUTS)/manifest.parquet),,cutouts of make demo, origin not stated)
# With status 1, some cutouts were rejected, and named; the demo goes on with the others.
IF_SOME_LEFT = $(if $(CUTOUTS), || test $$? -eq 1)
CLIENTS := .cache/clients
LOWEST := .cache/lowest
TORCH ?=
FOR_LOWEST := tests/fastnorm/io tests/fastnorm/cli tests/fastnorm/test_torch_op.py tests/dhs/model tests/dhs/checkpoint
# numba-cuda supports Linux, but not macOS.
EXTRAS := dhs,test,bench,lint,docs
ifeq ($(shell uname),Linux)
EXTRAS := cuda,$(EXTRAS)
endif

# Numba does not notice a change in a file that a kernel imports, so the name of the
# kernel cache is a hash of all kernel sources.
export NUMBA_CACHE_DIR := $(CURDIR)/.cache/numba-$(shell cat kernels/*.py | sha256sum | cut -c1-12)

.PHONY: help demo test test-slow test-coverage test-gpu test-clients test-lowest test-docs fuzz soak docs report bench \
  bench-compare bench-check bench-history bench-injection bench-grid gpu-evidence wheels lint format clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

$(PIPELINE): pyproject.toml setup.py
	@echo 'Building $(VENV) with the pipeline: up to 6.6 GB, of which PyTorch with CUDA is 5.5 GB.'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --editable '.[dhs]'
	touch $@

$(STAMP): $(PIPELINE)
	@echo 'Adding to $(VENV) what tests, benchmarks and documentation need: 0.6 GB.'
	$(BIN)/python -m pip install --editable '.[$(EXTRAS)]'
	touch $@

demo: $(PIPELINE)  ## run the whole pipeline on simulated data and write demo/report.html (CUTOUTS=DIR, ORIGIN=TEXT)
	$(BIN)/python examples/normalise.py --out demo $(if $(CUTOUTS),--cutouts '$(CUTOUTS)')$(IF_SOME_LEFT)
	$(BIN)/dhs simulate --out demo/survey --n 1200
	$(BIN)/dhs inject --hosts '$(or $(CUTOUTS),demo/survey)' --theta-e 1.5 --r-mag 22 --limit 4 \
	  --out demo/arcs.png$(IF_SOME_LEFT)
	$(BIN)/dhs train configs/demo_bottlenecked_resnet.yaml --set dataset.parquet_path=demo/survey \
	  --set train.out_dir=demo/training --set train.epochs=5 --set train.batch_size=32
	$(BIN)/dhs score demo/training/best.safetensors demo/survey --out demo/scores.parquet
	$(if $(CUTOUTS),$(BIN)/dhs score demo/training/best.safetensors '$(CUTOUTS)' --out demo/cutouts.parquet \
	  --overwrite $(if $(ORIGIN),--data-origin '$(ORIGIN)')$(IF_SOME_LEFT))
	$(BIN)/dhs evaluate demo/scores.parquet --truth demo/survey --fpr 0.05 --out demo/evaluation
	$(BIN)/dhs grid configs/demo_grid.yaml
	$(BIN)/dhs methods demo/training/best.safetensors --grid demo/grid --out demo/methods.md
	$(BIN)/dhs audit demo || test $$? -eq 1  # simulated data cannot pass the audit
	$(BIN)/dhs report demo --out demo/report.html

test: $(STAMP)  ## run the tests
	$(BIN)/python -m pytest

test-slow: $(STAMP)  ## run the slow tests: kills and restarts, reports of compiled kernels
	$(BIN)/python -m pytest -m slow

fuzz: $(STAMP)  ## give every reader broken files for 20 minutes (FUZZ_SECONDS, FUZZ_SEED)
	FUZZ_SECONDS=$${FUZZ_SECONDS:-1200} FUZZ_SEED=$${FUZZ_SEED:--1} $(BIN)/python -m pytest -m fuzz tests/faults/fuzz

soak: $(STAMP)  ## run a grid under random faults for 10 minutes (DHS_SOAK_SECONDS, DHS_SOAK_SEED)
	DHS_SOAK_SECONDS=$${DHS_SOAK_SECONDS:-600} $(BIN)/python -m pytest -m soak

test-coverage: $(STAMP)  ## count how often intervals contain a simulated truth (COVERAGE_RUNS=1000)
	COVERAGE_RUNS=$${COVERAGE_RUNS:-1000} DHS_COVERAGE_RUNS=$${COVERAGE_RUNS:-1000} $(BIN)/python -m pytest -m coverage tests/coverage

test-gpu: $(STAMP)  ## run the tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu

# These environments see the packages of .venv, so that torch is not installed twice.
define beside_venv
	$(BIN)/python -m venv --clear --without-pip $(1)
	$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
	  > "$$($(1)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/parent.pth"
endef

$(CLIENTS)/.installed: $(STAMP) tests/clients/requirements.txt
	$(call beside_venv,$(CLIENTS))
	$(BIN)/python -m pip --python $(CLIENTS)/bin/python install --quiet -r tests/clients/requirements.txt
	touch $@

$(LOWEST)/.installed: $(STAMP) tests/project/lowest.py
	$(call beside_venv,$(LOWEST))
	$(BIN)/python tests/project/lowest.py $(if $(TORCH),torch==$(TORCH)) > $(LOWEST)/requirements.txt
	$(BIN)/python -m pip --python $(LOWEST)/bin/python install --quiet -r $(LOWEST)/requirements.txt
	touch $@

# Deprecations of packages that are newer than those that use them are no faults of this project, and
# PyTorch 2.7 warns of the tables of pixels in graphs that it exports.
test-lowest: $(LOWEST)/.installed  ## run tests with the lowest versions that pyproject.toml allows (TORCH=2.7.1, TESTS=tests)
	NUMBA_CACHE_DIR=$(LOWEST)/numba $(LOWEST)/bin/python -m fastnorm check
	NUMBA_CACHE_DIR=$(LOWEST)/numba $(LOWEST)/bin/python -m pytest -W ignore::DeprecationWarning \
	  -W ignore::FutureWarning -W 'ignore:Attempted to insert a get_attr:UserWarning' \
	  -W 'ignore:Node constant_pixels:UserWarning' $(or $(TESTS),$(FOR_LOWEST))

test-clients: $(CLIENTS)/.installed  ## train with the layer in timm, Lightning, accelerate, FSDP2 and DDP
	$(CLIENTS)/bin/python -m pytest -m clients tests/clients

test-docs: $(STAMP)  ## run every code block of the README and the documentation
	$(BIN)/python -m pytest -m docs

docs: $(STAMP)  ## build the documentation into build/docs; warnings are errors
	$(BIN)/sphinx-build -W --keep-going -q -b html docs build/docs

report: $(STAMP)  ## compile the GPU kernels for every architecture, and model their cost
	$(BIN)/python -m benchmarks.gpu_model

bench: $(STAMP)  ## time every backend against its peers in one run, saved in .benchmarks
	$(BIN)/python -m benchmarks

bench-compare: $(STAMP)  ## compare the last two runs, or OLD=FILE NEW=FILE
	$(BIN)/python -m benchmarks.compare $(if $(OLD),'$(OLD)') $(if $(NEW),'$(NEW)')

bench-check: $(STAMP)  ## check that the ratios of a short run are within their bounds
	$(BIN)/python -m benchmarks --quick --check

bench-history: $(STAMP)  ## plot all saved runs
	$(BIN)/python -m benchmarks.history

bench-injection: $(STAMP)  ## time the renderer against lenstronomy and caustics
	$(BIN)/python -W ignore -m benchmarks.injection

bench-grid: $(STAMP)  ## time injection and recovery against a loop over stamps, and model them on GPUs
	$(BIN)/python -W ignore -m benchmarks.grid
	$(BIN)/python -W ignore -m benchmarks.scaling

# An environment made from wheels sees the packages of $(PYTHON), its torch and Triton among them.
ifdef WHEELS
EVIDENCE_BIN := build/gpu_evidence_env/bin
gpu-evidence: build/gpu_evidence_env
build/gpu_evidence_env: $(wildcard $(WHEELS)/*.whl)
	$(PYTHON) -m benchmarks.gpu_evidence.wheels install '$(WHEELS)' $@
else
EVIDENCE_BIN := $(BIN)
gpu-evidence: $(STAMP)
endif

gpu-evidence:  ## measure on a GPU all that only a GPU can tell (OUT=FOLDER, WHEELS=FOLDER without an index)
	$(EVIDENCE_BIN)/python -m benchmarks.gpu_evidence $(if $(OUT),--out '$(OUT)')

wheels: $(STAMP)  ## fill build/wheels for make gpu-evidence WHEELS=build/wheels (FOR_PYTHON=3.12)
	$(BIN)/python -m benchmarks.gpu_evidence.wheels fill build/wheels $(if $(FOR_PYTHON),--python $(FOR_PYTHON))

lint: $(STAMP)  ## ruff, mypy, and the walls between the rooms
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(STAMP)  ## fix and format the code with ruff
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the environment and all caches, but not the runs in .benchmarks
	rm -rf $(VENV) .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis demo build *.egg-info
