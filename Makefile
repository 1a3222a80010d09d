# Run `make` for help. Variables are given on the command line: make deploy ENV=dev STACK=custom-event-bus YES=1
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --warn-undefined-variables --no-builtin-rules --no-print-directory

PYTHON ?= python3
ENV ?= local
STACK ?=
REGION ?=
FILE ?=
EVENT ?=
YES ?=
TARGET ?=
BUS_OF ?=
# Further options of the command (see `eventstacks COMMAND --help`): make deploy ARGS=--disable-rollback
ARGS ?=

# A misspelled name on the command line would mean "all stacks": it is an error.
VARIABLES := ENV STACK REGION FILE EVENT YES TARGET BUS_OF ARGS PYTHON
GIVEN := $(foreach name,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(name)))),$(name)))
NEAREST := import difflib, sys; print(*difflib.get_close_matches(sys.argv[1].upper(), sys.argv[2:], 1, 0))
$(foreach name,$(filter-out $(VARIABLES),$(GIVEN)),$(error unknown variable $(name): \
  did you mean $(shell $(PYTHON) -c '$(NEAREST)' '$(subst ',,$(name))' $(VARIABLES))? Variables: $(VARIABLES). \
  Environment variables go first: $(name)=… make …))

# ENV is also what shells call their start-up file: exported, it counts only if it names an environment.
ifeq ($(origin ENV)$(wildcard parameters/$(ENV).yaml),environment)
ENV := local
endif
# $(call given,NAME): the value from the command line. One that the shell exports is refused: it is easily overlooked.
given = $(if $(filter environment,$(firstword $(origin $1))),$(error $1=$($1) comes from the shell's environment. \
  To use it: make $(MAKECMDGOALS) $1=$($1). To not use it: unset $1),$($1))
# $(call if-yes,NAME,OPTION): the option if the variable is 1, true or yes; no other value means yes.
if-yes = $(if $(filter 1 true yes,$(call given,$1)),$2)
unexport $(VARIABLES)
# Advice in messages names `make …` instead of `eventstacks …`.
export EVENTSTACKS_MAKE := 1

VENV := .venv
STAMP := $(VENV)/.installed
# The tools for development, in the same environment.
DEV := $(VENV)/.installed-dev
RUN := $(VENV)/bin/eventstacks
SCOPE = --env $(call given,ENV) $(addprefix --stack ,$(call given,STACK)) $(addprefix --region ,$(call given,REGION))
CONFIRM = $(call if-yes,YES,--yes)
MORE = $(call given,ARGS)

.PHONY: help
help: ## print this
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@printf '\nENV=local is the embedded AWS (no account, no Docker). Help for a command: %s COMMAND --help\n' '$(RUN)'

# Each prints one line per step with its time.
INSTALL := $(PYTHON) scripts/dev/install.py
$(STAMP): requirements.lock requirements-uv.lock
	@$(INSTALL) $(VENV) $< --editable
	@touch $@
$(DEV): requirements-dev.lock $(STAMP)
	@$(INSTALL) $(VENV) $<
	@touch $@
# Programs with conflicting pins have environments of their own.
.venv-%/.installed: requirements-%.lock
	@$(INSTALL) $(@D) $<
	@touch $@

##@ Start here
.PHONY: demo setup
demo: $(STAMP) ## deploy the stacks to an embedded AWS and watch events flow
	@$(RUN) demo
setup: $(STAMP) ## install the tools into .venv

##@ Templates
.PHONY: new render lint scan audit
new: $(STAMP) ## create a stack: make new STACK=orders [TARGET=lambda|sqs|…] [BUS_OF=other-stack]
	@$(RUN) new $(addprefix --stack ,$(call given,STACK)) $(addprefix --target ,$(call given,TARGET)) \
	  $(addprefix --bus-of ,$(call given,BUS_OF)) $(MORE)
render: $(STAMP) ## render templates/ into build/
	@$(RUN) render $(MORE)
lint: $(DEV) ## cfn-lint for every Region of every environment, yamllint for style
	@$(RUN) lint $(MORE)
	@$(VENV)/bin/yamllint --strict .
scan: render .venv-scan/.installed ## checkov for all variants of build/ and the workflows (reasons of skips: in the templates)
	@$(VENV)/bin/python -m dev.variants build/variants
	.venv-scan/bin/checkov --directory build --directory .github --framework cloudformation github_actions \
	  --compact --quiet --skip-download
# --strict: a package that could not be looked up (no network, a mirror without this data) is a failure.
audit: .venv-scan/.installed ## audit all lock files for known vulnerabilities (needs network)
	@failed=; for lock in requirements*.lock; do echo "$$lock"; \
	  .venv-scan/bin/pip-audit --strict --require-hashes --disable-pip --requirement "$$lock" || failed="$$failed $$lock"; \
	done; [ -z "$$failed" ] || { echo "Error: vulnerable or not audited:$$failed" >&2; exit 1; }

##@ The embedded AWS
.PHONY: local-up local-down local-status
local-up: $(STAMP) ## start it (ENV=local does so, too)
	@$(RUN) local up
local-down: $(STAMP) ## stop it and discard its data
	@$(RUN) local down
local-status: $(STAMP) ## show status, endpoint and stacks
	@$(RUN) local status

##@ Stacks
.PHONY: plan deploy delete status outputs drift recover follow
plan: $(STAMP) ## show what a deployment would change
	@$(RUN) plan $(SCOPE) $(MORE)
deploy: $(STAMP) ## create or update the stacks of ENV [STACK=…] [REGION=…]
	@$(RUN) deploy $(SCOPE) $(CONFIRM) $(MORE)
delete: $(STAMP) ## delete stacks in reverse dependency order, after confirmation
	@$(RUN) delete $(SCOPE) $(CONFIRM) $(MORE)
status: $(STAMP) ## show what is deployed, and in which state
	@$(RUN) status $(SCOPE) $(MORE)
outputs: $(STAMP) ## print stack outputs (ARGS=--json)
	@$(RUN) outputs $(SCOPE) $(MORE)
drift: $(STAMP) ## show what was changed outside of CloudFormation
	@$(RUN) drift $(SCOPE) $(MORE)
recover: $(STAMP) ## recover a stack stuck in a failed state
	@$(RUN) recover $(SCOPE) $(CONFIRM) $(MORE)
follow: $(STAMP) ## watch operations in progress
	@$(RUN) follow $(SCOPE) $(MORE)

##@ Events
.PHONY: send sample
send: $(STAMP) ## send events: make send STACK=custom-event-bus FILE=events.ndjson (default: stdin)
	@$(RUN) send $(SCOPE) $(MORE) $(call given,FILE)
sample: $(STAMP) ## print a sample event: make sample EVENT=s3-object-created
	@$(RUN) sample $(or $(call given,EVENT),--list) $(MORE)
.PHONY: tail archive-replay redrive
tail: $(STAMP) ## follow the log groups of STACK (ARGS=--bus: the bus itself)
	@$(RUN) tail $(SCOPE) $(MORE)
archive-replay: $(STAMP) ## list archives, replay events: ARGS='--since 2h --rule NAME'
	@$(RUN) archive-replay $(SCOPE) $(CONFIRM) $(MORE)
redrive: $(STAMP) ## show dead-letter queue messages; redeliver them: ARGS='--to target --rate 20'
	@$(RUN) redrive $(SCOPE) $(CONFIRM) $(MORE)

##@ The flow of events
.PHONY: trace
trace: $(STAMP) ## show which targets an event reaches: make trace EVENT=file.json [ENV=…] [STACK=…]
	@$(RUN) trace $(call given,EVENT) $(SCOPE) $(MORE)

##@ Benchmarks
.PHONY: bench-patterns bench-send bench-deploy bench-lint
bench-patterns: $(DEV) ## events/s against 1, 100 and 1,000 rules, compared with MiniStack's engine
	@PYTHONPATH=. $(VENV)/bin/python tests/bench/patterns.py
bench-send: $(DEV) ## speed, memory and accounting of the sender under faults, against a local stub
	@$(VENV)/bin/python tests/bench/send.py $(MORE)
bench-deploy: $(DEV) .venv-peers/.installed ## delay until the end of a deployment is noticed; time compared with sceptre and awscli
	@$(VENV)/bin/python tests/bench/deploy.py

bench-lint: $(DEV) ## time that our lint rules add to cfn-lint [ARGS=FOLDER]
	@$(VENV)/bin/python tests/bench/lint.py $(MORE)

##@ Development
.PHONY: test coverage taskcat check docs dist format lock clean
# More workers than cores: tests on the embedded AWS spend much of their time waiting.
PYTEST := -m pytest -n 6 --dist worksteal
test: $(DEV) ## all tests on the embedded AWS
	$(VENV)/bin/python $(PYTEST) $(MORE)
coverage: $(DEV) ## all tests, and coverage of branches: at least 95 %
	$(VENV)/bin/coverage erase
	$(VENV)/bin/coverage run $(PYTEST) $(MORE)
	$(VENV)/bin/coverage combine --quiet
	$(VENV)/bin/coverage report --skip-covered --fail-under=95
taskcat: $(STAMP) .venv-taskcat/.installed ## every stack in four Regions, with deliveries (ENV=dev: stock taskcat on your account)
	@$(VENV)/bin/python tests/taskcat/launcher.py $(SCOPE) $(CONFIRM) $(MORE)
check: $(DEV) lint ## ruff, mypy, radon, cfn-lint, yamllint, schemas, generated docs
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	! $(VENV)/bin/radon cc --min D --show-complexity scripts | grep .
	$(VENV)/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yaml
	$(VENV)/bin/check-jsonschema --check-metaschema parameters/schema.json # lint has validated parameters/*.yaml by it
	$(VENV)/bin/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
	$(VENV)/bin/python -m dev.docs --check
docs: $(STAMP) ## write the generated parts of docs/: diagrams, tables, command help
	@$(VENV)/bin/python -m dev.docs
dist: $(STAMP) ## build the wheel and the source distribution into dist/
	rm -rf dist
	$(VENV)/bin/hatchling build
format: $(DEV) ## format and auto-fix
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .
COMPILE := $(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-header
lock: $(DEV) ## update the lock files from pyproject.toml
	$(COMPILE) --upgrade --extra local --extra dev --group build --output-file requirements-dev.lock pyproject.toml
	$(COMPILE) --upgrade --extra local --group build --constraint requirements-dev.lock --output-file requirements.lock pyproject.toml
	for group in peers scan taskcat uv; do $(COMPILE) --upgrade --group $$group --output-file requirements-$$group.lock; done
clean: ## delete everything that make can create again, and stop the embedded AWS
	-test -x $(VENV)/bin/python && $(RUN) local down
	rm -rf build dist taskcat_outputs $(VENV) .venv-* .pytest_cache .mypy_cache .ruff_cache .coverage*
