# Each habit, defined once; CI and contributors call the same verbs. All of them work on a fresh clone.
# The environment lives in .venv. Remove the folder to start afresh.

comma := ,
PYTHON ?= python3
BIN := .venv/bin
BACKENDS := tensorflow jax torch
RESULTS := benchmarks/results
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# Two test processes share the cores, so each computes with one thread.
WORKERS ?= 2
ONE_THREAD := OMP_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1
# `make test-all` runs the slow ones, too.
ONLY ?= not slow
PYTEST = $(ONE_THREAD) TF_CPP_MIN_LOG_LEVEL=2 $(BIN)/python -m pytest -n $(WORKERS) -m "$(ONLY)"

.PHONY: help install lint format test test-light test-heavy test-hf test-r test-docs test-lowest lowest test-all coverage demo bench docs dist clean

help: ## Show this list.
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

install: .venv/dev ## Everything a contributor needs, in .venv.

.venv/bin/python:
	$(PYTHON) -m venv .venv
	$(PIP) --upgrade 'pip>=25.1'

# What the demo needs: the package and its fastest engine, no training framework.
.venv/demo: .venv/bin/python pyproject.toml
	$(PIP) --editable '.[openvino]'
	touch $@

# What lint, test and bench need: the pinned tools, all backends, and the peers to compare with.
.venv/dev: .venv/bin/python pyproject.toml
	$(PIP) --group dev --editable .
	$(PIP) --no-deps --group hub
	touch $@

# What only docs needs: the site's builder reads the sources and imports nothing, so no framework.
.venv/docs: .venv/bin/python pyproject.toml
	$(PIP) --group docs --group tools
	touch $@

# What only dist needs: the builder, beside what the demo needs, which the built package is tried with.
.venv/dist: .venv/demo
	$(PIP) --group dist
	touch $@

# What only bench needs: OpenVINO's own way to int8, as a peer.
.venv/bench: .venv/dev
	$(PIP) --group bench
	touch $@

lint: .venv/dev ## Formatting, style, types, layers, dependencies.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry src

format: .venv/dev ## Rewrite the files as ruff would have them.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: test-light test-heavy ## The suite without its slow tests, the heavy half once for each backend.

test-light: .venv/dev
	$(PYTEST) tests/light

test-heavy: $(BACKENDS:%=test-heavy-%)

# XLA compiles more than the tests compute, so it need not optimise.
test-heavy-%: .venv/dev
	KERAS_BACKEND=$* XLA_FLAGS=--xla_backend_optimization_level=0 $(PYTEST) tests/heavy

test-hf: .venv/dev ## transformers' own tests, with its classes and with ours; its source is fetched once.
	$(ONE_THREAD) $(BIN)/python tests/hf_suite/run.py

test-r: .venv/dev ## The R package: built, checked, tested; installs R from Debian where it is missing.
	r/test

# Everything that has a lower bound, at it; peers need newer versions, and newer versions warn of less.
EXTRAS := completion,jax,litert,onnxruntime,openvino,pandas,parquet,plots,ray,serve,tensorboard,tensorflow,torch
LOWEST := .venv-lowest/bin
LOWEST_PYTEST = $(ONE_THREAD) TF_CPP_MIN_LOG_LEVEL=2 $(LOWEST)/python -m pytest -W default -p no:randomly

.venv-lowest/done: .ci/lowest.txt
	$(PYTHON) -m venv .venv-lowest
	$(LOWEST)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(LOWEST)/python -m pip install --quiet --constraint .ci/lowest.txt --group tests prometheus-client \
		--editable '.[$(EXTRAS)]'
	touch $@

test-lowest: .venv-lowest/done ## The oldest versions allowed: the light half, and a model on each backend (Python 3.11).
	$(LOWEST_PYTEST) -n $(WORKERS) -m "not slow and not upstream" tests/light
	for backend in $(BACKENDS); do \
		KERAS_BACKEND=$$backend XLA_FLAGS=--xla_backend_optimization_level=0 $(LOWEST_PYTEST) \
			tests/heavy/test_model.py tests/heavy/test_train.py \
			-k "saved or training_step or leaves_everything" || exit 1; \
	done

lowest: .venv/bin/python ## Write .ci/lowest.txt anew, after a lower bound has changed.
	$(PIP) uv
	echo '# The oldest versions that pyproject.toml allows, on Python 3.11. Written by `make lowest`.' > .ci/lowest.txt
	$(BIN)/uv pip compile --quiet --python-version 3.11 --resolution lowest-direct --no-annotate --no-header \
		$(addprefix --extra ,$(subst $(comma), ,$(EXTRAS))) pyproject.toml \
		| grep -vE '^(cuda|nvidia|triton)' >> .ci/lowest.txt

test-all test-docs: ONLY := slow or not slow
test-all: test test-hf test-r ## The whole suite, transformers' own and the R package's.

coverage: .venv/dev ## What share of the source `make test` runs: the light half, and the heavy one on PyTorch.
	$(PYTEST) --cov --cov-report= tests/light
	KERAS_BACKEND=torch $(PYTEST) --cov --cov-append --cov-report=term:skip-covered tests/heavy

demo: .venv/demo ## Say what photographs show, where it was seen, and how fast, with the model that comes along.
	$(BIN)/python examples/demo.py

bench: .venv/bench ## Time this package against its peers, for hours; results go to benchmarks/results.
	$(BIN)/convnext bench --precisions float32,bfloat16,int8 --against all \
		--csv $(RESULTS)/engines.csv --chart $(RESULTS)/engines.png --markdown $(RESULTS)/engines.md
	$(BIN)/python benchmarks/keras_models.py
	$(BIN)/python benchmarks/loading.py base xlarge
	$(BIN)/python benchmarks/pictures.py
	$(BIN)/python benchmarks/first_answer.py
	$(BIN)/python benchmarks/huggingface.py
	$(BIN)/python benchmarks/training_data.py
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/training_processes.py
	$(BIN)/python benchmarks/pretraining.py
	$(BIN)/python benchmarks/serving.py
	$(BIN)/python benchmarks/soak_serving.py
	$(BIN)/python benchmarks/scale.py
	$(BIN)/python benchmarks/growth.py
	$(BIN)/python benchmarks/growth.py --plot
	$(BIN)/python benchmarks/gpu.py

docs: .venv/docs ## The site of the documentation, in site/.
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

test-docs: .venv/dev ## Check that the Python in the documentation and the notebooks runs.
	KERAS_BACKEND=torch $(PYTEST) tests/heavy/test_documentation.py tests/heavy/test_notebooks.py

dist: .venv/dist ## The wheel and the sdist, in dist/, each checked to be whole.
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/python .ci/dist.py

clean: ## Remove the environment and everything generated.
	rm -rf .venv .venv-lowest build dist site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
