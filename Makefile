# Two commands on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
BENCH := .venv-bench/bin
BENCH_STAMP := .venv-bench/.installed

# Prefect: a server of its own for each run, and not a word home.
export DO_NOT_TRACK := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false

.PHONY: demo test lint bench lock clean

demo: $(STAMP)
	@test -f demo/screen/truth/truth.json || $(BIN)/phenopipe simulate demo/screen
	@$(BIN)/python -m flows.screen_to_map demo/screen --root demo/lake --name demo \
		--annotations demo/screen/truth/annotations

test: $(STAMP) lint
	$(BIN)/python -m pytest

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(STAMP): pyproject.toml constraints.txt
	test -d .venv || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

# Ingest beside its peers, which have an environment of their own; see docs/benchmarks.md.
bench: $(BENCH_STAMP)
	$(BENCH)/python -m benchmarks.ingest

$(BENCH_STAMP): pyproject.toml constraints.txt benchmarks/requirements.txt
	test -d .venv-bench || $(PYTHON) -m venv .venv-bench
	$(BENCH)/python -m pip install --quiet --constraint constraints.txt --editable . \
		--requirement benchmarks/requirements.txt
	touch $@

# Refresh the lock: one resolution for every Python and platform, no index address in it.
lock:
	uv pip compile --universal --python-version 3.11 --all-extras --no-emit-index-url \
		--no-annotate --no-header --upgrade pyproject.toml --output-file constraints.txt

clean:
	rm -rf demo .bench .venv .venv-bench
