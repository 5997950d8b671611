# The gateway's commands. `make help` lists them.
PY := .venv/bin/python
PIP := .venv/bin/pip --disable-pip-version-check -q
export PIP_REQUIRE_VIRTUALENV = 1

.PHONY: help setup run serve test test-long chaos chaos-mutations bench bench-quick bench-guard profile check format lock contracts

help: ## What can be done here
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.ready ## Virtual environment in .venv with run-time and test packages

.venv/.ready: requirements.txt requirements-dev.txt tests/js/package-lock.json contracts/package-lock.json
	@test -x $(PY) || python3 -c 'import sys; sys.exit("Python 3.11 or newer is needed, python3 is %d.%d" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@test -x $(PY) || python3 -m venv .venv
	@$(PIP) install --require-hashes -r requirements.txt
	@$(PIP) install -r requirements-dev.txt
	@PATH="$(CURDIR)/.venv/bin:$$PATH" npm ci --prefix tests/js --silent --no-audit --no-fund
	@PATH="$(CURDIR)/.venv/bin:$$PATH" npm ci --prefix contracts --silent --no-audit --no-fund
	@touch $@

run: setup ## The demo: gateway, embedded Redis and a small real model; CHAIN=1 adds payment; Ctrl-C stops all of it
	@$(PY) -m examples.demo

serve: setup ## The whole gateway from the current environment, in one command
	@$(PY) app.py

test: setup ## Every test that fits into a few minutes
	@$(PY) -m pytest -n 4 -m "not long"

test-long: setup ## Soak, fault and repetition suites
	@$(PY) -m pytest -n 2 -m long

chaos: setup ## Money under chaos: every process killed at every step; SEEDS=20 runs
	@$(PY) -m tests.chaos --seeds $(or $(SEEDS),20)

chaos-mutations: setup ## Chaos without each precaution in turn: it must be found out
	@$(PY) -m tests.chaos --mutations

bench: setup ## Cost of a request and of a token beside other relays: docs/benchmarks.md; SCALE=1: against load
	@$(PY) -m bench.$(if $(SCALE),scale,run)

bench-quick: setup ## The same in under 3 minutes, only printed
	@$(PY) -m bench.run --quick

bench-guard: setup ## Fails when the gateway costs more bare relays than bench/limits.toml allows
	@$(PY) -m bench.guard

profile: setup ## Flame graphs of each scenario into bench/out
	@$(PY) -m bench.flames

check: setup ## Format, lint, types
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy

format: setup ## Put the code into shape
	@.venv/bin/ruff format .
	@.venv/bin/ruff check --fix .

contracts: setup ## Compile the contracts' artefacts anew
	@.venv/bin/node contracts/build.mjs

lock: ## Pin requirements.in and requirements-dev.in anew
	@$(PIP) install pip-tools
	@.venv/bin/pip-compile -q -U --generate-hashes --allow-unsafe --strip-extras --no-header --no-emit-index-url --no-emit-trusted-host --no-emit-find-links -o requirements.txt requirements.in
	@.venv/bin/pip-compile -q -U --strip-extras --no-header --no-emit-index-url --no-emit-trusted-host --no-emit-find-links -o requirements-dev.txt requirements-dev.in
