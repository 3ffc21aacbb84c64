# Two commands from a fresh clone: `make demo` and `make test`. Each installs what it needs in .venv.

PYTHON ?= python3
BIN := .venv/bin
FEATURE ?= mtldesc
IMAGES ?=
REFERENCE ?=

.PHONY: demo test lint clean

# The small town that is rendered here, or photographs of one's own: make demo IMAGES=DIR.
demo: .venv/installed
ifeq ($(strip $(IMAGES)),)
	$(BIN)/python -m pipelines.aachen --dataset demo --feature $(FEATURE) --max_keypoints 2000
else
	$(BIN)/python -m pipelines.sfm --images "$(IMAGES)" --feature $(FEATURE) \
		$(if $(REFERENCE),--reference "$(REFERENCE)")
endif

# Two processes of one thread each are twice as fast as one of two threads.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

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
