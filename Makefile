# `make run` shows Headrace on real data; `make test` is all that one needs to trust it.
SHELL := /bin/bash
.DEFAULT_GOAL := help
BIN := .venv/bin
# Tests start many processes: each would compile every module anew.
unexport PYTHONDONTWRITEBYTECODE
PYTEST := $(BIN)/python -m pytest -n $(or $(WORKERS),2) --dist loadfile

.PHONY: help run demo-venv test-venv bench-venv servers lint types check test test-rest test-all engines bench s3-tests s3fs-tests lock clean

help: ## show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

run: demo-venv ## mount a remote, slow store and query it direct, cold and warm; then keep serving (ONCE=1: end after the table)
	$(BIN)/headrace demo --dir .run/demo $(if $(ONCE),--once)

demo-venv:
	@scripts/ensure-venv.sh demo
test-venv:
	@scripts/ensure-venv.sh test
bench-venv:
	@scripts/ensure-venv.sh bench
servers:
	@scripts/ensure-servers.sh

lint: test-venv
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/lint-imports --config pyproject.toml

types: test-venv
	$(BIN)/mypy

check: lint types ## lint, types, import rules and the fast tests (< 3 min)
	$(PYTEST) -q -m "not servers and not slow and not browser"

test: check servers ## everything a user needs to trust it (≤ 10 min on 2 cores, set-up included)
	$(PYTEST) -q -m "(servers or browser) and not slow"

test-rest: test-venv servers
	$(PYTEST) -q -m "slow and not engines"
	@scripts/engines.sh today

engines: test-venv servers ## every engine in an environment of its own (ONLY=today: those whose turn it is; ONLY=spark: one group)
	@scripts/engines.sh $(or $(ONLY),all)

test-all: test test-rest ## the above, and faults, stress and engines

bench: bench-venv ## ratios against the peers, written to docs/PERFORMANCE.md
	@scripts/ensure-servers.sh bench
	$(BIN)/headrace bench

s3-tests: test-venv ## a checkout of ceph/s3-tests (SUITE=…) against Headrace, written to docs/CONFORMANCE.md (ARGS: see the script)
	$(BIN)/python benchmarks/s3_tests.py --suite $(SUITE) $(ARGS)

s3fs-tests: test-venv ## the suite of a checkout of s3fs (SUITE=…) against Headrace over a directory (ARGS: see the script)
	$(BIN)/python benchmarks/s3fs_tests.py --suite $(SUITE) $(ARGS)

lock: ## renew the exact versions under requirements/
	scripts/lock.sh

clean: ## remove what set-up made
	rm -rf .venv .servers .run .mypy_cache .ruff_cache .pytest_cache .hypothesis
