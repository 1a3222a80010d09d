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
KEEP ?=
FORMAT ?= cli
# Further options of the command (see `eventstacks COMMAND --help`): make deploy ARGS=--express
ARGS ?=

# A misspelled name on the command line would mean "all stacks": it is an error.
VARIABLES := ENV STACK REGION FILE EVENT YES KEEP FORMAT ARGS PYTHON
GIVEN := $(foreach name,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(name)))),$(name)))
NEAREST := import difflib, sys; print(*difflib.get_close_matches(sys.argv[1].upper(), sys.argv[2:], 1, 0))
$(foreach name,$(filter-out $(VARIABLES),$(GIVEN)),$(error unknown variable $(name): \
  did you mean $(shell $(PYTHON) -c '$(NEAREST)' '$(subst ',,$(name))' $(VARIABLES))? Variables: $(VARIABLES). \
  Environment variables go first: $(name)=… make …))

# ENV is also what shells call their start-up file: exported, it counts only if it names an environment.
ifeq ($(origin ENV)$(wildcard parameters/$(ENV).yaml),environment)
ENV := local
endif
# $(call given,NAME): the value from the command line. One that the shell exports is refused, since nobody sees it.
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
	@printf '\nENV=local is the embedded AWS (no account, no Docker). Every verb explains itself: %s VERB --help\n' '$(RUN)'

# Each prints one line per step with its time.
INSTALL := $(PYTHON) scripts/dev/install.py
$(STAMP): requirements-run.lock requirements-uv.lock
	@$(INSTALL) $(VENV) $< --editable
	@touch $@
$(DEV): requirements.lock $(STAMP)
	@$(INSTALL) $(VENV) $<
	@touch $@
# Programs with conflicting pins have environments of their own.
.venv-%/.installed: requirements-%.lock
	@$(INSTALL) $(@D) $<
	@touch $@

##@ Start here
.PHONY: demo setup
demo: $(STAMP) ## see events flow through the deployed stacks (KEEP=1 leaves them; ENV=dev: on your account)
	@$(RUN) demo --env $(call given,ENV) $(CONFIRM) $(call if-yes,KEEP,--keep) $(MORE)
setup: $(STAMP) ## install what is needed into .venv

##@ Templates
.PHONY: new render lint scan audit
new: $(STAMP) ## start a stack of your own: make new STACK=order-events [ARGS=--default-bus]
	@$(RUN) new $(addprefix --stack ,$(call given,STACK)) $(MORE)
render: $(STAMP) ## templates/*.yaml.j2 -> build/*.yaml
	@$(RUN) render $(MORE)
lint: $(DEV) ## cfn-lint for every region of every environment, yamllint for style
	@$(RUN) lint $(MORE)
	@$(VENV)/bin/yamllint --strict .
scan: render .venv-scan/.installed ## checkov over build/ and the workflows; what is skipped, and why, stands in the templates
	.venv-scan/bin/checkov --directory build --directory .github --framework cloudformation github_actions \
	  --compact --quiet --skip-download
# --strict: a package that could not be looked up (no network, a mirror without this data) is a failure.
audit: .venv-scan/.installed ## audit all lock files for known vulnerabilities (needs network)
	@failed=; for lock in requirements*.lock; do echo "$$lock"; \
	  .venv-scan/bin/pip-audit --strict --require-hashes --disable-pip --requirement "$$lock" || failed="$$failed $$lock"; \
	done; [ -z "$$failed" ] || { echo "Error: vulnerable or not audited:$$failed" >&2; exit 1; }

##@ The embedded AWS
.PHONY: local-up local-down local-status
local-up: $(STAMP) ## start it (ENV=local starts it by itself, too)
	@$(RUN) local up
local-down: $(STAMP) ## stop it; what it held is gone
	@$(RUN) local down
local-status: $(STAMP) ## is it running, where, what does it hold
	@$(RUN) local status

##@ Stacks
.PHONY: plan deploy delete status outputs drift recover follow parameters publish
plan: $(STAMP) ## show what a deployment would change
	@$(RUN) plan $(SCOPE) $(MORE)
deploy: $(STAMP) ## create or update the stacks of ENV [STACK=…] [REGION=…]
	@$(RUN) deploy $(SCOPE) $(CONFIRM) $(MORE)
delete: $(STAMP) ## delete them, after asking
	@$(RUN) delete $(SCOPE) $(CONFIRM) $(MORE)
status: $(STAMP) ## what is deployed where, and in what state
	@$(RUN) status $(SCOPE) $(MORE)
outputs: $(STAMP) ## what the stacks put out (ARGS=--json, ARGS=--dotenv)
	@$(RUN) outputs $(SCOPE) $(MORE)
drift: $(STAMP) ## what was changed outside of CloudFormation
	@$(RUN) drift $(SCOPE) $(MORE)
recover: $(STAMP) ## lead a stuck stack out of its state: says how, asks, does it
	@$(RUN) recover $(SCOPE) $(CONFIRM) $(MORE)
follow: $(STAMP) ## follow what is under way, whoever has started it
	@$(RUN) follow $(SCOPE) $(MORE)
parameters: $(STAMP) ## a stack's parameters as JSON for other tools: STACK=… FORMAT=cli|codepipeline
	@$(RUN) parameters $(SCOPE) --format $(call given,FORMAT) $(MORE)
publish: $(STAMP) ## upload build/ to the bucket of ENV; a link per stack and region that opens the console's form
	@$(RUN) publish $(SCOPE) $(MORE)

##@ Events
.PHONY: send sample
send: $(STAMP) ## send events: make send STACK=custom-event-bus FILE=events.ndjson (or on stdin)
	@$(RUN) send $(SCOPE) $(MORE) $(or $(call given,FILE),-)
sample: $(STAMP) ## a sample event: make sample EVENT=s3-object-created [ARGS='--set detail.bucket.name=x']
	@$(RUN) sample $(or $(call given,EVENT),--list) $(MORE)
.PHONY: tail archive-replay redrive metrics
tail: $(STAMP) ## follow all log groups of STACK in the order of time (ARGS=--bus: the bus itself)
	@$(RUN) tail $(SCOPE) $(MORE)
archive-replay: $(STAMP) ## list archives, replay them: ARGS='--since 2h --rule NAME --dry-run'
	@$(RUN) archive-replay $(SCOPE) $(CONFIRM) $(MORE)
redrive: $(STAMP) ## show dead letters and why; send them again: ARGS='--to target --rate 20'
	@$(RUN) redrive $(SCOPE) $(CONFIRM) $(MORE)
metrics: $(STAMP) ## is it working? matched, invoked, failed, dead letters of each rule (ARGS='--since 1d')
	@$(RUN) metrics $(SCOPE) $(MORE)

##@ The flow of events
.PHONY: trace backtest
trace: $(STAMP) ## what an event would do: make trace EVENT=file.json [ENV=…] [STACK=…] [ARGS=--json]
	@$(RUN) trace $(call given,EVENT) $(SCOPE) $(MORE)
backtest: $(STAMP) ## FILE=events.ndjson against the changed template of STACK and what is deployed
	@$(RUN) backtest $(SCOPE) $(MORE) $(call given,FILE)

##@ Benchmarks
.PHONY: bench-patterns bench-send bench-deploy bench-lint
bench-patterns: $(DEV) ## events/s against 1, 100 and 1,000 rules, beside MiniStack's engine
	@PYTHONPATH=. $(VENV)/bin/python tests/bench/patterns.py
bench-send: $(DEV) ## the sender's speed, memory and account under faults, against a stub on loopback
	@$(VENV)/bin/python tests/bench/send.py $(MORE)
bench-deploy: $(DEV) .venv-peers/.installed ## how soon a deployment's end is noticed, and its time beside sceptre and awscli
	@$(VENV)/bin/python tests/bench/deploy.py

bench-lint: $(DEV) ## what our lint rules add to cfn-lint's time [ARGS=FOLDER]
	@$(VENV)/bin/python tests/bench/lint.py $(MORE)

##@ Development
.PHONY: test taskcat check docs dist format lock clean
test: $(DEV) ## unit, template and integration tests on the embedded AWS; coverage of branches, 95 % at least
	$(VENV)/bin/coverage erase
	$(VENV)/bin/coverage run -m pytest -n 4 --dist worksteal $(MORE)
	$(VENV)/bin/coverage combine --quiet
	$(VENV)/bin/coverage report --skip-covered --fail-under=95
taskcat: $(STAMP) .venv-taskcat/.installed ## every stack in four regions, deliveries asserted (ENV=dev: stock taskcat on your account)
	@$(RUN) taskcat $(SCOPE) $(CONFIRM) $(MORE)
check: $(DEV) lint ## ruff, mypy, cfn-lint, yamllint, workflows, diagrams
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	! $(VENV)/bin/radon cc --min D --show-complexity scripts | grep .
	$(VENV)/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yaml
	$(VENV)/bin/check-jsonschema --schemafile parameters/schema.json parameters/*.yaml
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
	$(COMPILE) --upgrade --extra local --extra dev --group build --output-file requirements.lock pyproject.toml
	$(COMPILE) --upgrade --extra local --group build --constraint requirements.lock --output-file requirements-run.lock pyproject.toml
	for group in peers scan taskcat uv; do $(COMPILE) --upgrade --group $$group --output-file requirements-$$group.lock; done
clean: ## remove what can be made again
	-test -x $(VENV)/bin/python && $(RUN) local down
	rm -rf build dist taskcat_outputs $(VENV) .venv-* .pytest_cache .mypy_cache .ruff_cache .coverage*
