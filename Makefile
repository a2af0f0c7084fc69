# Two commands on a fresh machine: `make demo` and `make test`; `make server` for docs/nightly.md.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
TEST_STAMP := .venv/.installed-tests
BENCH := .venv-bench/bin
BENCH_STAMP := .venv-bench/.installed
PEERS := .venv-peers/bin
PEERS_STAMP := .venv-peers/.installed

# Prefect: a server of its own for each run, and not a word home.
export DO_NOT_TRACK := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false

.PHONY: demo test lint audit server bench bench-maps lock clean

demo: $(STAMP)
	@test -f demo/screen/truth/truth.json || $(BIN)/phenopipe simulate demo/screen
	@$(BIN)/python -m flows.screen_to_map demo/screen --root demo/lake --name demo \
		--annotations demo/screen/truth/annotations

# A file's tests stay in one process, for they share servers and screens; the longest files come early.
test: $(TEST_STAMP) lint
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder -rs

lint: $(TEST_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The locked dependencies against PyPI's advisories, by a tool with an environment of its own.
audit:
	test -d .venv-audit || $(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python -m pip install --quiet pip-audit==2.10.1
	$(PYTHON) .ci/audit.py .venv-audit/bin/pip-audit constraints.txt

# A server of one's own, without a password, for this machine alone: docs/nightly.md.
# Leases in files outlive a restart; in memory, a run at work would end itself.
server: $(STAMP)
	PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE=prefect.server.concurrency.lease_storage.filesystem \
		$(BIN)/prefect --no-prompt server start

$(STAMP): pyproject.toml constraints.txt
	test -d .venv || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

# Torch, which makes models and runs none, and what checks infra/ are needed by the tests alone. All
# in one resolution: each takes a minute.
$(TEST_STAMP): pyproject.toml constraints.txt
	test -d .venv || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt \
		--editable '.[dev,train,infra]'
	touch $(STAMP) $@

# Ingest and embed beside their peers, in an environment of its own; see docs/benchmarks.md.
bench: $(BENCH_STAMP)
	$(BENCH)/python -m benchmarks.ingest
	$(BENCH)/python -m benchmarks.embed

$(BENCH_STAMP): pyproject.toml constraints.txt benchmarks/requirements.txt
	test -d .venv-bench || $(PYTHON) -m venv .venv-bench
	$(BENCH)/python -m pip install --quiet --constraint constraints.txt --editable '.[train]' \
		--requirement benchmarks/requirements.txt
	touch $@

# Maps beside their peers, which have an environment of their own.
bench-maps: $(BENCH_STAMP) $(PEERS_STAMP)
	$(BENCH)/python -m benchmarks.maps --peers $(PEERS)/python
	$(BENCH)/python -m benchmarks.maps_scale

$(PEERS_STAMP): benchmarks/maps-requirements.txt
	test -d .venv-peers || $(PYTHON) -m venv .venv-peers
	$(PEERS)/python -m pip install --quiet --requirement benchmarks/maps-requirements.txt
	$(PEERS)/python -m pip install --quiet --no-deps --upgrade --target .venv-peers/for-proxbias \
		efaar_benchmarking==0.1.0
	touch $@

# Bring the lock to what pyproject.toml asks for: one resolution for every Python and platform, no
# index address in it. Upgrades are made one by one, with --upgrade-package.
lock:
	uv pip compile --universal --python-version 3.11 --all-extras --no-emit-index-url \
		--no-annotate --no-header pyproject.toml --output-file constraints.txt

clean:
	rm -rf demo .bench .venv .venv-audit .venv-bench .venv-peers
