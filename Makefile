# Two commands from a fresh clone: `make demo` and `make test`. Each installs what it needs in .venv.

PYTHON ?= python3
BIN := .venv/bin
FEATURE ?= sift
SHARED ?= $(or $(FEATPLUG_SHARED),../shared)
STRECHA := $(SHARED)/data/strecha/fountain-P11
IMAGES ?= $(wildcard $(STRECHA)/images)
REFERENCE ?= $(if $(filter $(STRECHA)/images,$(IMAGES)),$(STRECHA)/gt_dense_cameras)

.PHONY: demo test lint clean

ifeq ($(strip $(IMAGES)),)
demo:
	@echo "Pass a folder of overlapping photographs: make demo IMAGES=path/to/photographs"
	@exit 2
else
demo: .venv/installed
	$(BIN)/python -m pipelines.sfm --images "$(IMAGES)" --feature $(FEATURE) \
		$(if $(REFERENCE),--reference "$(REFERENCE)")
endif

test: lint
	$(BIN)/python -m pytest

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf .venv outputs
