# `make` lists the targets. All targets build with the release profile, so that dependencies are compiled once for tests, demo and
# production.

CARGO ?= cargo
PROGRAM := target/release/rekindle
DEMO_OUT := target/demo
FUZZ_SECONDS ?= 300
QUALITY_SECONDS ?= 600

.DEFAULT_GOAL := help
.PHONY: help build demo up compose-secrets compose-check test soak lint bench bench-peers bench-mlflow bench-disturbances quality calibrate fuzz tools

help: ## Lists the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Builds the program to target/release/rekindle.
	$(CARGO) build --release --locked --package rekindle

demo: build ## Runs the whole loop on a year of real flights and writes target/demo/report.html.
	scripts/install-tools.sh nats
	$(PROGRAM) demo --data deploy/demo/flights_2013.parquet --target late --time timestamp \
	  --train-until 2013-05-01T00:00:00Z --ignore flight_id,flight_no,arr_delay --replicas 3 --out $(DEMO_OUT)

up: build ## Starts the platform on this machine with its state in ./rekindle-data.
	scripts/install-tools.sh nats
	$(PROGRAM) up --data-dir rekindle-data

compose-secrets: ## Makes the passwords of compose.yaml at random, once.
	scripts/compose-secrets.sh

compose-check: build ## Runs compose.yaml with Debian's Docker engine, without an image registry: the whole story, three replicas, down and up again (as root, ten minutes).
	scripts/install-tools.sh nats s3 onnx envoy
	scripts/compose-check.sh $(PROGRAM)

test: tools ## Runs lints and all tests, on servers that it installs and starts.
	$(MAKE) lint
	# One build of the program and the tests: two builds would compile their dependencies twice, with different features.
	$(CARGO) build --release --locked --workspace --bins --tests
	$(CARGO) nextest run --release --locked --workspace

soak: tools ## Runs ten minutes of load on every service with a random fault every few seconds (REKINDLE_SOAK_SECONDS, REKINDLE_SOAK_SEED).
	$(CARGO) build --release --locked --workspace --bins --tests
	REKINDLE_SOAK_SECONDS=$${REKINDLE_SOAK_SECONDS:-600} $(CARGO) nextest run --release --locked --workspace -E 'binary(soak)' --no-capture

lint: ## Runs rustfmt, clippy, and checks of dependencies and deployment files; a warning is an error.
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --locked --workspace --all-targets -- --deny warnings
	python3 scripts/check-dependencies.py
	scripts/install-tools.sh python
	.tools/python/bin/python deploy/check.py

bench: tools build ## Measures start-up time, idle memory, memory of registering large files and of profiling 2,000 columns, serving against a bare echo server, capture, lookup and export of a million rows, the join of ten million outcomes in random order, drift against Evidently, alibi-detect and whylogs, training against PyTorch, a training on ten million rows in 2 GiB of memory, and the collection of blobs beside eight writers for a minute.
	scripts/install-tools.sh nats
	scripts/bench-start.sh $(PROGRAM)
	CARGO="$(CARGO)" scripts/bench-register.sh $(PROGRAM)
	scripts/bench-profile.py $(PROGRAM)
	$(CARGO) run --release --locked --package rekindle-inference --example bench_serving
	$(CARGO) run --release --locked --package rekindle-monitor --example bench_monitor
	$(CARGO) run --release --locked --package rekindle-monitor --example bench_outcomes
	scripts/bench-drift.sh $(PROGRAM)
	CARGO="$(CARGO)" scripts/bench-training.sh
	CARGO="$(CARGO)" scripts/bench-large-table.sh
	REKINDLE_GARBAGE_SECONDS=60 $(CARGO) nextest run --release --locked --workspace --no-capture -E 'test(no_blob_is_lost_beside_uploads)'

bench-peers: build ## Measures serving of ONNX networks against MLServer and Triton, which it installs into .tools/peers (1 GB, five minutes).
	scripts/install-tools.sh nats onnx
	scripts/bench-serving-peers.sh $(PROGRAM)

bench-mlflow: build ## Measures the registry beside MLflow's server, which it installs into .tools/mlflow-server (five minutes).
	scripts/install-tools.sh nats
	CARGO="$(CARGO)" scripts/bench-mlflow.sh $(PROGRAM)

bench-disturbances: build ## Measures the p99 latency of a replica while versions are swapped, the bus stands still and a model of 500 MB is loaded (ten minutes).
	scripts/install-tools.sh nats onnx
	scripts/bench-disturbances.py $(PROGRAM)

quality: build ## Compares the models of `train` and of `train --auto` with scikit-learn and LightGBM on real data, and replays each set through the loop (an hour on two cores; QUALITY_SECONDS is the budget of --auto).
	scripts/install-tools.sh nats
	CARGO="$(CARGO)" scripts/quality.sh $(PROGRAM) $(QUALITY_SECONDS)

calibrate: tools ## Simulates the false-alarm rate and the detection delay of the drift verdict (about an hour on two cores), compares each block of real data with the others, and estimates the loss of each window from its predictions.
	$(CARGO) run --release --locked --package rekindle-statistics --example calibrate
	$(CARGO) nextest run --release --locked --workspace --no-capture -E 'binary(known_drifts) | binary(estimated_performance)'

fuzz: ## Fuzzes the readers of profiles, files and prediction requests for five minutes each; needs a nightly compiler and cargo-fuzz.
	for target in libs/dataset/fuzz/profile libs/dataset/fuzz/files services/inference/fuzz/grpc services/inference/fuzz/rest; do \
	  name=$$(basename $$target) && cd $(CURDIR)/$$(dirname $$target) && mkdir -p corpus/$$name && \
	  $(CARGO) +nightly fuzz run $$name corpus/$$name seeds/$$name -- \
	    -max_total_time=$(FUZZ_SECONDS) -max_len=16384 -rss_limit_mb=3000 -timeout=10 || exit 1; done

tools: ## Installs the servers and clients that the tests need into .tools (PostgreSQL and Chromium with apt-get).
	scripts/install-tools.sh
