.DEFAULT_GOAL := help
.PHONY: help serve test test-slow chaos check unit proto lock bench bot-image clean env
SHELL := /bin/sh
PYTHON := .venv/bin/python
WITH_ENGINE := $(PYTHON) -m dev.run --
LOCK := .venv-lock/bin/uv pip compile --quiet --generate-hashes --universal --python-version 3.11 \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" $(UPGRADE)

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-18s %s\n", $$1, $$2 }'

serve: env ## run the service on an engine, with a demo bot to create (Ctrl-C stops it)
	@exec $(WITH_ENGINE) $(PYTHON) -m dev.serve

test: env ## all checks, then all tests but the slow ones, on a real engine
	@$(MAKE) --no-print-directory check
	@exec $(WITH_ENGINE) sh -c '$(PYTHON) -m dev.images test bot && exec $(PYTHON) -m pytest -m "not slow"'

test-slow: env ## the tests that take minutes
	@exec $(WITH_ENGINE) sh -c '$(PYTHON) -m dev.images test bot && exec $(PYTHON) -m pytest -m slow'

chaos: env ## the faults of tests/chaos in full: killed, frozen, full, exhausted; prints a table at the end
	@exec $(WITH_ENGINE) sh -c '$(PYTHON) -m dev.images test && exec $(PYTHON) -m pytest -m slow tests/chaos'

check: env ## lint, format, types, contract and stubs
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy
	$(PYTHON) -m mypy --package dev
	.venv/bin/buf lint
	.venv/bin/buf format --diff --exit-code
	dev/breaking.sh
	$(PYTHON) -m dev.proto --check

unit: env ## the fast tests, which need no engine
	@exec $(PYTHON) -m pytest tests/unit

proto: env ## generate the stubs under client/ from proto/
	$(PYTHON) -m dev.proto

lock: ## lock the requirements anew (UPGRADE=--upgrade takes the newest versions)
	@dev/env.sh lock
	$(LOCK) --all-extras --group dev --output-file requirements/dev.txt pyproject.toml
	$(LOCK) --group protoc --output-file requirements/protoc.txt
	echo uv | $(LOCK) --output-file requirements/uv.txt -

bench: env ## measure the service against the raw engine and the docker SDK
	@exec $(WITH_ENGINE) sh -c '$(PYTHON) -m dev.images test && exec $(PYTHON) -m bench'

bot-image: env ## build the bot image on the engine, unless it has it
	@exec $(WITH_ENGINE) $(PYTHON) -m dev.images bot

clean: ## remove the environments, and the private engine with its images
	@if [ -e .dev/engine ]; then $(or $(wildcard $(PYTHON)),python3) -m dev.run --stop; fi
	rm -rf .venv .venv-protoc .venv-lock .dev

env:
	@dev/env.sh
