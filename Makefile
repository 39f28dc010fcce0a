# Every target works in a clean clone on Debian or Ubuntu with a Rust toolchain; `make` alone
# explains them.
.DEFAULT_GOAL := help
.PHONY: help setup build demo test test-postgres stack chaos million bench bench-growth micro check fuzz
SHELL := /bin/bash
CARGO ?= cargo
SECONDS_OF_FUZZ ?= 60
MINUTES ?= 10
PG ?= 18

help: ## This text
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

setup: ## Install PostgreSQL, redis-server and a C compiler where they are missing (starts none)
	@.ci/install-servers

build: setup ## The release binary: target/release/walrelay
	$(CARGO) build --release --locked

demo: setup ## See it work in 20 seconds: private servers, users, events, a kill -9, the verdict
	@$(CARGO) build --release --locked --bin walrelay --example demo
	@exec "$${CARGO_TARGET_DIR:-target}/release/examples/demo"

test: setup ## Every test, on real servers of its own
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
		set -x; $(CARGO) nextest run --locked && $(CARGO) test --locked --doc \
			&& $(CARGO) nextest run --locked --features otel --test otel; \
	else \
		set -x; $(CARGO) test --locked && $(CARGO) test --locked --features otel --test otel; \
	fi

test-postgres: setup ## Every test on another PostgreSQL, fetched from the npm registry (PG=18; 14 to 18)
	WALRELAY_PG_BIN=$$(.ci/postgres-version $(PG)) $(CARGO) nextest run --locked

stack: ## The containers as shipped, on a real Docker engine (installed and started where missing)
	@.ci/stack

chaos: setup ## Kill, freeze and cut everything at random, then judge (MINUTES=10, SEED=…)
	@CHAOS_SEED=$(SEED) CHAOS_MINUTES=$(MINUTES) CHAOS_SET="$(SET)" \
		$(CARGO) test --locked --test chaos -- --nocapture

million: setup ## `walrelay verify` over 1,000,000 events under live traffic: nothing found, and its memory
	$(CARGO) test --locked --test promises -- --ignored --nocapture a_million_events

bench: ## Throughput, latency, footprint, each beside its target (ROUNDS=5, ROWS=…, ONLY=…)
	@.ci/install-servers --bench
	@$(CARGO) build --release --locked --bin walrelay --example bench --example events
	@exec "$${CARGO_TARGET_DIR:-target}/release/examples/bench"

bench-growth: ## The drain as streams, payloads, transactions and backlogs grow (HUGE=1: 10^7 rows)
	@ONLY=growth $(MAKE) --no-print-directory bench

micro: ## Micro-benchmarks of decode, envelope and batch (criterion)
	$(CARGO) bench --locked --bench line

check: ## Format and lints, warnings as errors
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets --locked -- -D warnings
	$(CARGO) clippy --lib --bin walrelay --test otel --locked --features otel -- -D warnings

fuzz: ## Throw bytes at the decoder (nightly and cargo-fuzz; SECONDS_OF_FUZZ=60)
	fuzz/run $(SECONDS_OF_FUZZ)
