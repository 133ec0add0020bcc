# make up · make test · make check · make down. Needs git, make, Node 20 or newer with npm, Python 3.11 and Go.

NODE22 := bin/node22
MODULES := node_modules
ENVIRONMENT ?= local
# `make unit TESTS=test/plan` runs a part.
TESTS ?=

.PHONY: help up down check unit test soak bench bench-hosts build install format clean
.PHONY: check-lint check-format check-types check-dead-code check-shell check-python check-settings

help:
	@echo "make up      install what is missing, serve the model on this machine, print its endpoints"
	@echo "make down    take it all away again and prove it"
	@echo "make build   install what is missing and compile, so that bin/tandem works"
	@echo "make check   linters, formatter, type check, dead code: seconds once it has looked at all"
	@echo "make unit    the fast tests: about a minute"
	@echo "make test    everything: check, fast tests, real engine, real model"
	@echo "make soak    200 runs on an emulated cloud, each killed at a random instant: what is left, into docs/leaks.md"
	@echo "make bench   what Tandem itself costs beyond vLLM and Pulumi, what training costs serving, and beside Ansible and pyinfra"
	@echo "make format  format the sources and fix what the linters can"
	@echo "make clean   remove what was built here"

up: build
	@bin/tandem up --env $(ENVIRONMENT) --yes

down: build
	@bin/tandem destroy --env $(ENVIRONMENT) --yes

check: install
	@$(MAKE) --no-print-directory --output-sync=target --jobs=2 --keep-going \
		check-types check-lint check-format check-dead-code check-shell check-python check-settings
	@echo "make check: no findings"

# The compiler written in Go: a third of the time. ESLint's rules need the one in JavaScript.
check-types:
	@$(NODE22) $(MODULES)/typescript7/bin/tsc -p tsconfig.json --noEmit --incremental --tsBuildInfoFile .cache/typecheck.tsbuildinfo

# By hand only changed files are looked at again; a rule that knows types may miss what a change does to another file. CI looks at all.
check-lint:
	@$(NODE22) $(MODULES)/eslint/bin/eslint.js $(if $(CI),,--cache --cache-strategy content --cache-location .cache/eslint) .

check-format:
	@$(NODE22) $(MODULES)/prettier/bin/prettier.cjs --check --log-level warn --cache --cache-location .cache/prettier .

check-dead-code:
	@$(NODE22) $(MODULES)/knip/bin/knip.js --no-progress

check-shell:
	@sh scripts/lint-shell.sh

check-python:
	@sh scripts/lint-python.sh

check-settings:
	@$(NODE22) --import tsx scripts/settings-doc.ts --check

unit: install
	@$(NODE22) $(MODULES)/vitest/vitest.mjs run --project fast $(TESTS)

test: check
	@$(NODE22) $(MODULES)/vitest/vitest.mjs run $(TESTS)

# Runs that are killed at random instants, and the table of what each left.
soak: install
	@TANDEM_SOAK_RUNS=200 TANDEM_LEAK_TABLE=docs/leaks.md $(NODE22) $(MODULES)/vitest/vitest.mjs run --project fast test/cloud/killed.test.ts

bench: build
	@$(NODE22) --import tsx scripts/bench.ts
	@$(NODE22) --import tsx scripts/bench-training.ts
	@$(NODE22) --import tsx scripts/bench-gateway.ts
	@$(MAKE) --no-print-directory bench-hosts

# Only the part on test hosts, which needs root.
bench-hosts: build
	@$(NODE22) --import tsx scripts/bench-hosts.ts 4 8

build: install
	@sh scripts/build.sh

install:
	@sh scripts/install.sh

format: install
	@$(NODE22) $(MODULES)/prettier/bin/prettier.cjs --write --log-level warn .
	@$(NODE22) $(MODULES)/eslint/bin/eslint.js --fix . || true
	@"$$(sh scripts/tool.sh ruff)" format --quiet --no-cache bootstrap test

clean:
	rm -rf dist coverage .cache
