# Everything is one command. The first one makes .venv by itself; nothing else on the machine is touched.
#
#   make up ARGS="--port 9000"      options for the program behind a target
#   make test N=8 ARGS=tests/bus    N processes
#   make PYTHON=python3.13 up       another interpreter

.DEFAULT_GOAL := help
.PHONY: help up test check bench warm proto requirements clean
MAKEFLAGS += --no-print-directory
SHELL := /bin/sh

PYTHON ?=
ARGS ?=
N ?= 2

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.teji-requirements
LINKED := $(VENV)/.teji-project
COMPILED := $(VENV)/.teji-kernels
CODE := schemas proto market bus brokers ingest aggregator gateway sim bench teji tests

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1#\2/p' Makefile | awk -F'#' '{ printf "%-20s %s\n", $$1, $$2 }'

up: $(COMPILED) ## the demo: simulated exchange, all workers, the page at http://127.0.0.1:8000
	@exec $(BIN)/teji up $(ARGS)

test: $(COMPILED) ## all tests
	@exec $(BIN)/python -m pytest -n $(N) $(ARGS)

check: $(LINKED) ## lint, format, types, the rules of the house
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy $(CODE)
	@$(BIN)/python -m pytest tests/test_house.py

bench: $(COMPILED) ## every number of the README, each beside its peer
	@exec $(BIN)/teji bench all $(ARGS)

warm: $(COMPILED) ## compile the kernels ahead of the first start

proto: $(LINKED) ## generate proto/feed_pb2.py from proto/feed.proto
	@$(BIN)/python -m grpc_tools.protoc -I. --python_out=. \
		--plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy --mypy_out=. proto/feed.proto

requirements: ## pin the dependencies of pyproject.toml anew (needs uv)
	@.ci/requirements

clean: ## remove .venv, caches and the demo's data; refuses while servers run
	@$(or $(PYTHON),python3) teji/clean.py

# The environment, in three steps of which each is repeated only when what it depends on has changed.

$(INSTALLED): requirements-dev.txt .ci/environment
	@PYTHON="$(PYTHON)" .ci/environment $(VENV)
	@touch $@

$(LINKED): $(INSTALLED) pyproject.toml
	@.ci/environment $(VENV) project
	@touch $@

$(COMPILED): $(LINKED) $(wildcard proto/*.py ingest/merge.py aggregator/*.py)
	@$(BIN)/python -m teji.warm
	@touch $@
