# The jobs of `make test`, run beside one another: `make -f dev/suite.mk`, with DOCKER_HOST set.
#
# The tests on engines mostly wait, the others mostly compute, and the checks take what these leave of the machine.
# A failed job stops no other. Each leaves its exit code in $(RESULTS)/NAME.exit, and each pytest its report in
# NAME.xml. `dev.ci` reads both.

SHELL := /bin/sh
RESULTS := .dev/results
# Where each pytest keeps which tests failed. A repetition (REPEAT=--last-failed) has RESULTS of its own.
CACHES := $(RESULTS)
REPEAT :=
PYTHON := .venv/bin/python
LOWEST := .venv-lowest/bin/python
COMPUTES := nice -n 5
IDLE := $(if $(shell command -v ionice),ionice -c 3) nice -n 19

BOT_IMAGE_TESTS := $(sort $(wildcard tests/engine/test_bot_image*.py)) \
	$(patsubst %,tests/engine/test_%.py,end_to_end_bot make_serve)
# These need a real engine too, and take a quarter of the time of all tests that do.
LOG_TESTS := $(sort $(wildcard tests/engine/test_log*.py)) tests/engine/test_stream_logs.py
FAULT_TESTS := tests/hostile tests/chaos
# Of the unit tests, those that depend on the versions of the dependencies.
VERSION_TESTS := tests/packaging/test_requirements.py tests/rpc \
	$(sort $(wildcard $(patsubst %,tests/unit/test_%.py,client *_codec e* log_messages proto serve_* streams wire)))

REST_IGNORES := $(patsubst %,--ignore=%,tests/engine tests/swarm $(FAULT_TESTS))

# In the order of their start. The tests of the bot image wait until it is built.
JOBS := engine faults logs rest bot-image check $(if $(CI),audit) lowest bot swarm

# $(call job,COMMAND) also when interrupted keeps the exit code. MAKEFLAGS is for this make alone.
job = trap : INT; start=$$(date +%s); MAKEFLAGS= $(1); code=$$?; \
	echo "$$code after $$(($$(date +%s) - start)) s" >$(RESULTS)/$@.exit; \
	echo; echo "======== $@: exit code $$(cat $(RESULTS)/$@.exit)"; exit $$code
pytest = -m pytest -m "not slow" -o cache_dir=$(CURDIR)/$(CACHES)/$@.cache --junit-xml=$(RESULTS)/$@.xml $(REPEAT)
# Code under test can end pytest itself, with any exit code; then there is no report.
reported = { test -s $(RESULTS)/$@.xml || { echo "$@: something ended pytest before its report"; false; }; }

.PHONY: all jobs start $(JOBS)

all:
	@$(MAKE) --keep-going --jobs=6 --output-sync=target --no-print-directory -f dev/suite.mk jobs; code=$$?; \
		echo; cd $(RESULTS) && grep "" *.exit; exit $$code

jobs: $(JOBS)
$(JOBS): | start

start:
	@rm -rf $(RESULTS) && mkdir -p $(RESULTS) && touch $(patsubst %,$(RESULTS)/%.exit,$(JOBS))

# The plus sign shows the output of this job as it comes.
engine:
	+@$(call job,$(PYTHON) $(pytest) tests/engine $(patsubst %,--ignore=%,$(BOT_IMAGE_TESTS) $(LOG_TESTS)) && $(reported))

logs:
	@$(call job,$(PYTHON) $(pytest) $(LOG_TESTS) && $(reported))

faults:
	@$(call job,$(PYTHON) $(pytest) $(FAULT_TESTS) && $(reported))

rest:
	@$(call job,$(COMPUTES) $(PYTHON) $(pytest) tests $(REST_IGNORES) && $(reported))

bot-image:
	@$(call job,$(COMPUTES) $(PYTHON) -m dev.images bot)

check:
	@$(call job,$(IDLE) make --no-print-directory check)

# An audit that could not be carried out is no failure: the network may be down.
AUDIT := dev/env.sh audit || { echo "THE AUDIT DID NOT HAPPEN: its environment cannot be made"; exit 3; }; \
	exec $(PYTHON) -m dev.audit
audit:
	@$(call job,$(IDLE) sh -c '$(AUDIT)' || test $$? = 3)

lowest:
	@$(call job,$(COMPUTES) sh -c 'dev/env.sh lowest && exec $(LOWEST) $(pytest) -q $(VERSION_TESTS)' && $(reported))

bot:
	@$(call job,$(PYTHON) $(pytest) $(BOT_IMAGE_TESTS) && $(reported))

swarm:
	@$(call job,$(PYTHON) $(pytest) tests/swarm && $(reported))
