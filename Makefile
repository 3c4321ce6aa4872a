# Everything runs from .venv at the root, which each target makes or brings up to date from uv.lock.
PYTHON ?= python3
PYTEST_ARGS ?=
FAST ?=
STRIDE ?= 1
BIN := .venv/bin
BENCHMARKS := help plan push webhooks history logs followers environments pipelines edits data_checks gates \
	latency_gate model_server model_peers exported autoscaling step rollouts

.PHONY: setup demo test lint architecture coverage crash-points rollout-points histories storm fuzz hostile clients edits soak \
	soak-serving slow-faults zero-loss bad-revisions benchmarks clean
.DEFAULT_GOAL := setup

setup: .venv/.ready

.venv/.ready: uv.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 ..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv sync --frozen --quiet --compile-bytecode  # sandboxed probes cannot write bytecode themselves
	@$(BIN)/python -m compileall -q src
	@touch $@

demo: setup  ## the whole journey of a commit, on real data
	$(BIN)/interlock demo $(if $(FAST),--fast)

test: setup  ## every test
	$(BIN)/pytest -n 4 --dist loadgroup --no-loadscope-reorder $(PYTEST_ARGS)

lint: setup  ## style and types
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/mypy

architecture: setup  ## the rules of ARCHITECTURE.md
	$(BIN)/lint-imports --no-cache
	$(BIN)/pytest -q tests/architecture

coverage: setup  ## branch coverage of the domain
	$(BIN)/coverage run -m pytest -q tests/domain
	$(BIN)/coverage report

crash-points: setup  ## a server killed and failed at each single call that changes a file; half an hour
	CRASH_POINTS=every $(BIN)/pytest -q tests/chaos/test_crash_points.py

rollout-points: setup  ## a control plane killed, or stopped and woken, at each call of a rollout (STRIDE=8: each eighth, half an hour)
	ROLLOUT_POINTS=$(STRIDE) $(BIN)/pytest -q -s tests/chaos/test_rollout_points.py

histories: setup  ## two thousand random histories of rollouts, and a planted mistake at a time; an hour
	HISTORIES=1000 MISTAKES=every $(BIN)/pytest -q -s tests/chaos/test_rollout_histories.py tests/chaos/test_rollout_stories.py \
		tests/chaos/test_monitoring_stories.py

storm: setup  ## fifty kill storms of twenty runs, ten kills under traffic, a minute's sleep in a canary; an hour
	STORM_SEEDS=50 ASLEEP_SECONDS=60 KILLS=every $(BIN)/pytest -q tests/chaos/test_kill_storm.py \
		tests/chaos/test_asleep_in_a_canary.py tests/chaos/test_killed_control_plane.py tests/contract/test_proxy_envoy.py

fuzz: setup  ## a thousand requests of every shape to each operation of the API, and every boundary; half an hour
	INTERLOCK_EXAMPLES=1000 $(BIN)/pytest -q tests/contract/test_web_schema.py

hostile: setup  ## five thousand hostile requests to a model server, half in binary, and schemathesis; ten minutes
	HOSTILE_REQUESTS=2500 $(BIN)/pytest -q tests/contract/test_inference_server.py -k "HostileRequests or schemathesis"

clients: setup  ## every public client that asks a model server, KServe's SDK in an environment of its own; a minute
	CLIENTS=all $(BIN)/pytest -q tests/contract/test_inference_server.py -k "Clients and not schemathesis"

edits: setup  ## two hundred random repositories with random edits; twelve of them are in every test run
	RANDOM_REPOSITORIES=200 $(BIN)/pytest -q tests/journeys/test_random_edits.py

soak: setup  ## half an hour of pushes, webhooks, reads and followers: memory and descriptors stay flat
	$(BIN)/python benchmarks/soak.py --minutes 30

soak-serving: setup  ## an hour of steady requests through Envoy: memory, descriptors and latency stay flat
	$(BIN)/python benchmarks/soak_serving.py

slow-faults: setup  ## a model that takes a minute to start, ten minutes without a control plane, under load; twelve minutes
	$(BIN)/python benchmarks/faults.py

zero-loss: setup  ## rollouts, scaling, kills and configurations under 500 requests/s; five minutes (all of it: see the script)
	$(BIN)/python benchmarks/zero_loss.py --seconds 15 --runs 1

bad-revisions: setup  ## twenty-four bad and twenty good revisions, live, judged by errors, latency and labels; half an hour
	$(BIN)/python benchmarks/bad_revisions.py

benchmarks: setup  ## every figure we claim, whatever another misses; an hour
	@missed=; for name in $(BENCHMARKS); do \
		echo "== $$name"; $(BIN)/python benchmarks/$$name.py || missed="$$missed $$name"; \
	done; test -z "$$missed" || { echo "targets are missed in:$$missed"; exit 1; }

clean:  ## removes what the targets made
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
