# Everything runs from a fresh clone with Python >= 3.11 and make; another interpreter: make PYTHON=python3.12 ...
PYTHON ?= python3
VENV   ?= .venv
JOBS   ?= 2

BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
PYTEST := $(BIN)/python -m pytest
CODE   := src tests benchmarks examples

# One thread per worker: results do not depend on the core count, and the workers do not fight over cores.
export OMP_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1
export MKL_NUM_THREADS := 1

.DEFAULT_GOAL := help
.PHONY: help demo test check static lint format types imports docs serve-docs wheel bench index regold soak lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "ridgeline needs Python >= 3.11; try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.user: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e '.[plot]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/.user

demo: $(VENV)/.user ## install, then predict one deployment: a table on screen, a picture in demo/
	@mkdir -p demo
	$(BIN)/ridgeline predict serving --model meta-llama/Llama-3.1-70B --on "8x h100-sxm" --tp 8 \
	  --isl 1024 --osl 1024 --concurrency 64 --roofline demo/roofline.html --roofline demo/roofline.png

test: $(VENV)/.dev ## the test suite, without the tests marked slow (COV=1 adds branch coverage)
	$(PYTEST) -n $(JOBS) -m "not slow" $(if $(COV),--cov --cov-report=term)

check: static ## all of CI: the static gates, then `make test` with coverage
	$(MAKE) test COV=1

static: lint types imports docs

lint: $(VENV)/.dev ## ruff: rules and format
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)

format: $(VENV)/.dev ## rewrite the code as `make lint` wants it
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

types: $(VENV)/.dev ## mypy, strict
	$(BIN)/mypy

imports: $(VENV)/.dev ## the layer table
	$(BIN)/lint-imports

docs: $(VENV)/.dev ## build the documentation; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict --site-dir build/site

serve-docs: $(VENV)/.dev ## the documentation on a local port
	$(BIN)/mkdocs serve

wheel: $(VENV)/.dev ## build the wheel
	$(BIN)/python -m build --no-isolation --wheel --outdir build/dist .

bench: $(VENV)/.dev ## speed, as printed rates
	@for file in benchmarks/[a-z]*.py; do $(BIN)/python $$file || exit 1; done

index: $(VENV)/.user ## rebuild the name indices after adding or renaming a chip, node, site or model card
	$(BIN)/python -m ridgeline.hardware.build_index
	$(BIN)/python -m ridgeline.workloads.cards

regold: $(VENV)/.dev ## write golden files and shown outputs anew; read the diff before committing it
	RIDGELINE_REGOLD=1 $(PYTEST) -q $(wildcard tests/golden) tests/house/test_docs.py tests/studies
	git --no-pager diff --stat -- tests/golden '*.md'

soak: $(VENV)/.dev ## every test, the slow ones too, with many more random examples
	HYPOTHESIS_PROFILE=soak $(PYTEST) -n $(JOBS)

# The lock is what a clean environment resolves to now; review the diff like any other change.
lock: ## resolve the newest allowed versions into constraints.txt
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev,hub]'
	{ sed '/^[^#]/,$$d' constraints.txt; build/lock/bin/python -m pip freeze --exclude-editable; } > build/constraints.txt
	mv build/constraints.txt constraints.txt
	rm -rf build/lock

clean: ## remove what the other targets made
	rm -rf build demo .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache .coverage $(VENV)/.user $(VENV)/.dev
