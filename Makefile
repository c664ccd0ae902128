# Everything needs only Python 3.11+ and make. `make demo` and `make test` build .venv on first use.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -qq --constraint constraints.txt
PYTEST := OMP_NUM_THREADS=1 JAX_COMPILATION_CACHE_DIR=.cache/jax JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0.3 $(BIN)/python -m pytest -q
# Two processes, a test file to one of them, so that it shares its compiled programs; files in their own order, in which the long
# ones are not the last.
SHARED := -n 2 --dist loadfile --no-loadscope-reorder
# Fast tests compile far more than they compute, so their programs are hardly optimised, and made in one piece, as both cores
# have work anyway; slow tests run the users' programs.
HASTY := XLA_FLAGS="--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
GAPFILL := OMP_NUM_THREADS=1 PYTHONPATH=benchmarks $(BIN)/python -m gapfill
SPEED := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 PYTHONPATH=benchmarks $(BIN)/python -m speed
CORE_TESTS := tests/kernels tests/statespace tests/priors
# Of the core, what asks every kernel for all that it says.
LAWS := tests/kernels/test_laws.py

.PHONY: demo test test-slow coverage mutation docs bench bench-full bench-speed bench-all lint clean

demo: .venv/demo.stamp
	JAX_COMPILATION_CACHE_DIR=.cache/jax $(BIN)/probtensor demo

# The laws of the core hold in 32 bits, too; its other tests run a second time among the slow ones.
test: lint
	$(HASTY) $(PYTEST) $(SHARED)
	$(HASTY) PROBTENSOR_TEST_X64=0 $(PYTEST) $(SHARED) $(LAWS)

test-slow: .venv/dev.stamp .venv/docs.stamp
	$(PYTEST) -m slow
	PROBTENSOR_TEST_X64=0 $(PYTEST) $(CORE_TESTS)

# Lines and branches of probtensor/ that the quick tests reach; what other processes run does not count.
coverage: .venv/dev.stamp
	$(HASTY) $(PYTEST) $(SHARED) --cov --cov-report=term:skip-covered $(FLAGS)

# The pages in build/docs, from index.html. A warning is an error: a name without a target, a page without a place.
docs: .venv/docs.stamp
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --nitpicky -q -c docs . build/docs

# Gap filling beside other packages: seed 0 within about an hour, and three seeds. What was measured is kept in benchmarks/records,
# so that another call goes on where the last one stopped. FLAGS="--help" lists what else it can do.
bench: .venv/dev.stamp
	$(GAPFILL) --minutes 60 $(FLAGS)

bench-full: .venv/dev.stamp
	$(GAPFILL) --seeds 0 1 2 --limit 900 $(FLAGS)

# Speed, as ratios within one run: an hour. FLAGS="--parts tensorly" measures a part.
bench-speed: .venv/dev.stamp
	$(SPEED) $(FLAGS)

# Mutation testing of linalg, statespace, priors and terms: small changes of a copy of the source that some test should notice. An
# hour; FLAGS="--rooms terms --number 50" asks more of one room.
mutation: .venv/mutation.stamp
	$(BIN)/python benchmarks/mutation $(FLAGS)

# Every other question: all scripts of benchmarks/, which takes hours.
bench-all: bench
	@set -e; for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python "$$script"; done

lint: .venv/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:
	rm -rf .venv .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist

.venv/venv.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "probtensor needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) --version 2>&1 || true)."; \
	  echo "Name another one: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv --clear .venv
	@touch $@

.venv/demo.stamp: .venv/venv.stamp pyproject.toml constraints.txt
	@echo "Installing what the demo needs into .venv (once, some minutes)"
	$(PIP) --editable '.[demo]'
	@touch $@

.venv/dev.stamp: .venv/venv.stamp pyproject.toml constraints.txt
	@echo "Installing what the tests need into .venv (once, some minutes)"
	$(PIP) --editable '.[dev]'
	@touch $@ .venv/demo.stamp

.venv/docs.stamp: .venv/venv.stamp pyproject.toml constraints.txt
	@echo "Installing what the documentation needs into .venv (once, a minute)"
	$(PIP) --editable '.[docs]'
	@touch $@

.venv/mutation.stamp: .venv/dev.stamp
	$(PIP) --editable '.[mutation]'
	@touch $@
