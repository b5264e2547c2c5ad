.DEFAULT_GOAL := help
.PHONY: help serve serve-swarm test test-slow test-swarm test-engines test-lowest fuzz chaos check audit unit proto lock bench bench-fleet bench-swarm bot-image release clean env
SHELL := /bin/sh
PYTHON := .venv/bin/python
# Should make be killed, the run still clears up: it gets a signal then.
TIED := $(if $(shell command -v setpriv),setpriv --pdeathsig TERM --)
WITH_ENGINE := $(TIED) $(PYTHON) -m dev.run --
LOWEST := .venv-lowest/bin/python -m pytest -m "not slow" tests/packaging/test_requirements.py tests/rpc tests/unit
LOCK := .venv-lock/bin/uv pip compile --quiet --generate-hashes --universal --python-version 3.11 \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" $(UPGRADE)
# Images contain the versions that the tests use.
AS_TESTED := --constraint requirements/dev.txt

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-18s %s\n", $$1, $$2 }'

serve: env ## run the service in the foreground, with the secrets of a demo bot (Ctrl-C stops it)
	@exec $(WITH_ENGINE) $(PYTHON) -m dev.serve

serve-swarm: env ## the same on a swarm of three machines, all of them on this one
	@exec $(WITH_ENGINE) $(PYTHON) -m dev.serve_swarm

test: env ## run all checks and all tests except the slow ones, on a real engine
	@exec $(WITH_ENGINE) make --no-print-directory -f dev/suite.mk </dev/null

test-slow: env ## run the tests that take minutes, except those of tests/chaos and tests/swarm
	@exec $(WITH_ENGINE) sh -c '$(PYTHON) -m dev.images test bot && exec $(PYTHON) -m pytest -m slow --ignore tests/chaos --ignore tests/swarm'

test-engines: env ## run the engine tests on three releases of Docker and on Podman, or on ENGINES=NAME; write docs/engines.md
	@exec $(WITH_ENGINE) $(PYTHON) -m dev.engines $(if $(TESTS),-k "$(TESTS)") $(ENGINES)

test-swarm: env ## run all tests on a swarm of machines of our own, on two releases of Docker; write docs/swarm.md
	@exec $(WITH_ENGINE) $(PYTHON) -m dev.swarm.conformance $(if $(TESTS),-k "$(TESTS)")

test-lowest: env ## run the unit and rpc tests with the lowest versions that pyproject.toml allows
	@dev/env.sh lowest
	@exec $(WITH_ENGINE) $(LOWEST)

audit: env ## look for known vulnerabilities in the locks (needs the network; exit codes are in dev/audit.py)
	@dev/env.sh audit
	@exec $(PYTHON) -m dev.audit

fuzz: env ## send hostile bytes to the listeners, for three minutes or SECONDS=n; SEED=n repeats a run
	@exec $(WITH_ENGINE) $(PYTHON) -m tests.fuzz --seconds $(or $(SECONDS),180) $(if $(SEED),--seed $(SEED))

chaos: env ## run all fault tests in tests/chaos (engine killed, disk full, …) and print a table
	@exec $(WITH_ENGINE) sh -c '$(PYTHON) -m dev.images test && exec $(PYTHON) -m pytest -m slow tests/chaos'

check: env ## check lint, format, types, contract and stubs
	@dev/env.sh protoc
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy
	$(PYTHON) -m mypy --package dev
	$(PYTHON) -m mypy --package bench
	.venv/bin/buf lint
	.venv/bin/buf format --diff --exit-code
	dev/breaking.sh
	dev/proto.sh --check
	$(PYTHON) -m dev.reference | diff --unified docs/reference.md - || { echo "run \`make proto\`"; exit 1; }

unit: env ## run the fast tests, which need no engine
	@exec $(PYTHON) -m pytest -n auto -m "not slow" tests/unit

proto: env ## generate the stubs under client/ and docs/reference.md from proto/
	@dev/env.sh protoc
	dev/proto.sh
	mkdir -p .dev
	$(PYTHON) -m dev.reference >.dev/reference.md
	mv .dev/reference.md docs/reference.md

lock: ## lock the requirements again (UPGRADE=--upgrade uses the newest versions)
	@dev/env.sh lock
	$(LOCK) --all-extras --group dev --output-file requirements/dev.txt pyproject.toml
	$(LOCK) --all-extras --group test --resolution lowest-direct --output-file requirements/lowest.txt pyproject.toml
	$(LOCK) --group protoc --output-file requirements/protoc.txt
	$(LOCK) --group audit --output-file requirements/audit.txt
	$(LOCK) --group node --output-file requirements/node.txt
	echo uv | $(LOCK) --output-file requirements/uv.txt -
	$(LOCK) $(AS_TESTED) --extra server --extra cli --extra age --output-file requirements/server.txt pyproject.toml
	$(LOCK) $(AS_TESTED) --group api-tier --output-file requirements/api-tier.txt pyproject.toml
	$(LOCK) $(AS_TESTED) --group build --output-file requirements/build.txt

bench: env ## measure the service against the raw engine and the docker SDK; PARTS="lifecycle --rounds 600"
	@exec $(WITH_ENGINE) sh -c '$(PYTHON) -m dev.images test && exec $(PYTHON) -m bench $(PARTS)'

bench-swarm: env ## measure the service on a swarm of machines of our own, as root; PARTS=--quick takes some minutes
	@exec $(WITH_ENGINE) $(PYTHON) -m bench --swarm $(PARTS)

bench-fleet: env ## measure the service beside `openclaw fleet`, with real bots; write docs/openclaw-fleet.md
	@exec $(WITH_ENGINE) $(PYTHON) -m bench.fleet docs/openclaw-fleet.md

bot-image: env ## build the bot image, unless the engine has it
	@exec $(WITH_ENGINE) $(PYTHON) -m dev.images bot

release: env ## release VERSION=x.y.z: changelog, tag, packages, image; DRY_RUN=1 only tries it
	@exec $(PYTHON) -m dev.release $(VERSION) $(if $(DRY_RUN),--dry-run)

clean: ## remove the environments, and the private engine with its images
	@if [ -e .dev/engine ]; then $(or $(wildcard $(PYTHON)),python3) -m dev.run --stop; fi
	@[ "$$(id -u)" != 0 ] || $(or $(wildcard $(PYTHON)),python3) -c 'from dev.swarm.record import clear_abandoned; clear_abandoned()'
	rm -rf .venv .venv-protoc .venv-lock .venv-lowest .venv-audit .venv-node .dev

env:
	@dev/env.sh
