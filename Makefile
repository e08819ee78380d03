# Each target sets up .venv by itself. Needed beforehand: Python 3.11+ and make.

PYTHON ?= python3
VENV := .venv
MADE := $(VENV)/.made
READY := $(VENV)/.ready
DEMO_READY := $(VENV)/.demo-ready
LOWEST := .venv-lowest
LOWEST_READY := $(LOWEST)/.ready

# What tests and benchmarks need and pip cannot install; Debian's names. Node also comes
# from elsewhere, then with npm in it.
SYSTEM_PACKAGES := chromium curl nginx wrk $(if $(shell command -v npm 2>/dev/null),,nodejs npm)

# Where package.json names the clients and the server that run under node.
NODE_CLIENTS := tests/interop/node

# The groups of tests that `make test` leaves out.
GROUPS ?= interop or browser or system or soak

# What the type checkers read.
CHECKED := $(wildcard agentauth_middleware tests examples benchmarks tools typing_tests)

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-groups test-lowest system-deps bench lint format \
	audit release clean

help:
	@echo "make demo         watch an agent find its way into two APIs, and out again"
	@echo "make test         the default tests, with branch coverage"
	@echo "make test-groups  the tests left out there: $(GROUPS)"
	@echo "make test-lowest  the default tests on the lowest supported dependencies"
	@echo "make lint         ruff, mypy and pyright"
	@echo "make format       let ruff fix and format"
	@echo "make bench        the benchmarks"
	@echo "make audit        look for known vulnerabilities in all dependencies"
	@echo "make release      check, date and tag a release: make release VERSION=0.2.0"
	@echo "make system-deps  install what pip cannot: $(SYSTEM_PACKAGES)"
	@echo "make venv         only set up $(VENV)"
	@echo "make clean        remove $(VENV) and all that the targets made"

venv: $(READY)

$(MADE):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "This needs Python 3.11 or newer, and '$(PYTHON)' is not."; \
	  echo "Name one that is: make PYTHON=/path/to/python3.12 ..."; \
	  exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	@touch $@

$(READY): pyproject.toml | $(MADE)
	$(VENV)/bin/python -m pip install --quiet --editable ".[all]" --group dev
	@touch $@

# Far less than what tests and linters need, so that there is soon something to see.
$(DEMO_READY): pyproject.toml | $(MADE)
	$(VENV)/bin/python -m pip install --quiet --editable ".[demo]"
	@touch $@

demo: $(DEMO_READY)
	@$(VENV)/bin/agentauth demo

test: $(READY)
	@$(VENV)/bin/coverage erase
	$(VENV)/bin/coverage run -m pytest -n 2 --dist worksteal
	@$(VENV)/bin/coverage combine --quiet
	$(VENV)/bin/coverage report

test-groups: $(READY)
	$(VENV)/bin/python -m pytest -m "$(GROUPS)"

# Where the oldest releases use what Python has deprecated since, that is no news.
test-lowest: $(LOWEST_READY)
	$(LOWEST)/bin/python -m pytest -W ignore::DeprecationWarning

$(LOWEST_READY): pyproject.toml | $(READY)
	$(VENV)/bin/uv venv --quiet --clear --python $(VENV)/bin/python $(LOWEST)
	$(VENV)/bin/uv pip compile --quiet --all-extras --resolution lowest-direct \
	  --python $(LOWEST) --output-file $(LOWEST)/lowest.txt pyproject.toml
	$(VENV)/bin/uv pip install --quiet --python $(LOWEST) \
	  --constraints $(LOWEST)/lowest.txt --editable ".[all]" --group test
	@touch $@

system-deps:
	@missing=""; \
	for package in $(SYSTEM_PACKAGES); do \
	  dpkg-query --show --showformat '$${db:Status-Status}\n' $$package 2>/dev/null \
	    | grep -qx installed || missing="$$missing $$package"; \
	done; \
	if [ "$$(id -u)" = 0 ]; then as_root=env; else as_root=sudo; fi; \
	if [ -z "$$missing" ]; then \
	  echo "Already installed: $(SYSTEM_PACKAGES)"; \
	elif command -v apt-get >/dev/null && command -v $$as_root >/dev/null; then \
	  echo "Installing with apt-get:$$missing"; \
	  $$as_root apt-get -qq update && $$as_root DEBIAN_FRONTEND=noninteractive \
	    apt-get -qq install --yes --no-install-recommends $$missing </dev/null; \
	else \
	  echo "Cannot install with apt-get here. Some tests need:$$missing"; \
	  test "$$CI" != true; \
	fi
	@echo "Installing with npm: what $(NODE_CLIENTS)/package.json names"
	@cd $(NODE_CLIENTS) && npm ci --silent --ignore-scripts || { \
	  echo "Cannot install with npm here. Some tests need it."; \
	  test "$$CI" != true; \
	}

bench: $(READY)
	$(VENV)/bin/python -m benchmarks

lint: $(READY)
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy $(CHECKED)
	$(VENV)/bin/pyright $(CHECKED)

format: $(READY)
	$(VENV)/bin/ruff check --fix
	$(VENV)/bin/ruff format

# On the lowest and on the newest versions that the settings of the package allow. Needs
# an advisory database, so it is not part of .ci/run.
audit: $(READY)
	@for resolution in lowest-direct highest; do \
	  echo "Looking for known vulnerabilities: $$resolution"; \
	  list=$$(mktemp); \
	  $(VENV)/bin/uv pip compile --quiet --all-extras --resolution $$resolution \
	    --python $(VENV) --no-header --no-annotate --output-file $$list pyproject.toml \
	  && $(VENV)/bin/pip-audit --strict --progress-spinner off --disable-pip --no-deps \
	    --requirement $$list; \
	  status=$$?; rm -f $$list; \
	  test $$status = 0 || { \
	    echo "Vulnerable, or no advisory database can be reached: see above."; \
	    exit $$status; }; \
	done

release: $(READY)
	@test -n "$(VERSION)" || { \
	  echo "Name the version: make release VERSION=0.2.0"; exit 2; }
	$(VENV)/bin/python tools/release.py $(VERSION)

clean:
	rm -rf $(VENV) $(LOWEST) $(NODE_CLIENTS)/node_modules
	rm -rf .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache
