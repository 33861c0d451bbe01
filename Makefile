PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export OMP_NUM_THREADS ?= 1
.DEFAULT_GOAL := setup

.PHONY: setup
setup: .venv/ready model/iris.joblib ## make .venv from requirements.lock and train the model

.PHONY: demo
demo: setup ## ask through every stage, send 1,000 tasks, check all; MODEL=PATH for your own model
	petal demo $(if $(MODEL),--model "$(MODEL)")

.PHONY: up
up: setup ## run broker, 2 workers, sink and API until Ctrl-C
	@petal up --workers 2

.PHONY: test
test: .venv/ready ## run all tests, with a real broker and real processes
	python -m pytest

.PHONY: test-kafka
test-kafka: .venv/ready ## the tests of the pipeline on Apache Kafka (needs Java 17 and mvn)
	TEST_BROKER=kafka python -m pytest tests/streams/test_pipeline.py tests/streams/test_client.py \
		tests/streams/test_delivery.py tests/streams/test_poison.py tests/streams/test_limits.py \
		tests/streams/logs tests/streams/replicas/test_two_databases.py tests/infra/test_prefix.py \
		tests/streams/replicas/test_own.py::test_two_replicas_have_the_same_rows_though_one_is_killed_amid_the_stream \
		tests/streams/replicas/test_own.py::test_a_shared_sink_beside_own_ones_has_all_rows_too \
		tests/streams/transport/test_undecodable.py \
		tests/streams/transport/test_transactions.py tests/streams/maintenance/test_deleted_unread.py \
		tests/infra/broker/test_topic_configs.py tests/infra/broker/security \
		tests/streams/test_rollout.py::test_a_rollout_under_load_loses_doubles_and_mixes_up_nothing \
		tests/operating tests/chaos/test_runs.py

.PHONY: test-brokers
test-brokers: .venv/ready ## the tests of delivery on three brokers, some of which are lost
	TEST_BROKER=kafka TEST_BROKERS=3 python -m pytest -n 0 tests/streams/brokers \
		tests/streams/test_delivery.py tests/streams/test_client.py \
		tests/streams/logs/test_recreated_logs.py tests/infra/broker/test_replicas.py \
		tests/infra/kafka/test_main.py tests/chaos/test_cluster.py

.PHONY: crash-points
crash-points: .venv/ready ## a kill -9 at every point of worker and sink (about 8 minutes)
	python -m pytest -m slow tests/streams/test_crash_points.py

.PHONY: chaos
chaos: .venv/ready ## inject every fault under load for 4 minutes, then check every guarantee
	python -m tests.chaos --seed $${SEED:-1}

.PHONY: chaos-report
chaos-report: .venv/ready ## 10 seeds of the chaos run and the page of their results; OPTIONS=--kafka
	python -m tests.chaos.release --seeds $${SEEDS:-10} --jobs $${JOBS:-1} -- $(OPTIONS)

.PHONY: mutants
mutants: .venv/ready ## build in 26 defects; the chaos run must find each (about 26 minutes)
	python -m pytest -n 0 -m slow tests/chaos

.PHONY: kafka
kafka: .venv/ready ## Apache Kafka on 127.0.0.1:9092 without Docker; BROKERS=3 for three brokers
	@python -m infra.kafka --brokers $(or $(BROKERS),1)

.PHONY: check
check: .venv/ready ## format, lint, rules of imports and types, without changing anything
	ruff format --check .
	ruff check .
	lint-imports --no-cache
	mypy

.PHONY: format
format: .venv/ready ## reformat the code
	ruff format .
	ruff check --fix .

.PHONY: bench
bench: .venv/ready ## all benchmarks, about an hour; on Apache Kafka too with Java 17 and mvn
	python -m tests.benchmarks

.PHONY: bench-rest
bench-rest: .venv/ready ## requests/s of the REST service against four other servers (needs wrk)
	python -m tests.benchmarks.rest

.PHONY: bench-models
bench-models: .venv/ready ## your models against scikit-learn, MLServer and a plain worker (needs wrk)
	python -m tests.benchmarks.models

.PHONY: bench-bulk
bench-bulk: .venv/ready ## petal predict --file with 1,000,000 rows against a script of pandas
	python -m tests.benchmarks.bulk

.PHONY: lock
lock: .venv/ready ## update requirements.lock, and the part of it that the image has
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --all-extras \
		--no-header pyproject.toml --output-file requirements.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --extra otel \
		--no-header --constraint requirements.lock pyproject.toml \
		--output-file infra/requirements.lock

.PHONY: image
image: ## build the container image `petalstream`; MODEL=model/rent.joblib for a model of your own
	docker build --file infra/Dockerfile --tag petalstream $(if $(MODEL),--build-arg "MODEL=$(MODEL)") .

.PHONY: image-check
image-check: .venv/ready ## run the steps of infra/Dockerfile and its health check without Docker
	python -m pytest -n 0 -m slow tests/infra/containers/test_image.py

.PHONY: wheel
wheel: .venv/ready ## build dist/petalstream-*.whl, which pip installs anywhere
	rm -rf build dist
	pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .
	rm -rf build

.PHONY: clean
clean: ## remove .venv, var, dist, the trained model and caches
	rm -rf .venv var build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	rm -f model/iris.joblib model/iris.json
	rm -rf model/.iris.joblib.versions
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.venv/ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	@echo "installing $$(grep -c '^[a-z]' requirements.lock) packages into .venv"
	.venv/bin/pip install --disable-pip-version-check --require-hashes -r requirements.lock
	.venv/bin/pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

model/iris.joblib: .venv/ready model/train.py
	petal train
