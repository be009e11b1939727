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
RUNTIME := $(VENV)/.teji-runtime
DEV := $(VENV)/.teji-dev
KERNELS := $(VENV)/.teji-kernels
CODE := schemas proto market bus brokers ingest aggregator gtt gateway sim bench teji deploy tests

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1#\2/p' Makefile | awk -F'#' '{ printf "%-20s %s\n", $$1, $$2 }'

up: $(KERNELS) ## the demo: simulated exchange, all workers, the page at http://127.0.0.1:8000
	@exec $(BIN)/teji up $(ARGS)

test: $(DEV) $(KERNELS) ## all tests
	@exec $(BIN)/python -m pytest -n $(N) --dist worksteal $(ARGS)

check: $(DEV) ## lint, format, types, the rules of the house
	@$(BIN)/ruff check $(CODE)
	@$(BIN)/ruff format --check $(CODE)
	@$(BIN)/mypy $(CODE)
	@$(BIN)/python -m pytest tests/test_house.py

bench: $(DEV) $(KERNELS) ## every number of the README, each beside its peer
	@exec $(BIN)/teji bench all $(ARGS)

warm: $(KERNELS) ## compile the kernels ahead of the first start

proto: $(DEV) ## generate proto/feed_pb2.py from proto/feed.proto
	@$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. proto/feed.proto

requirements: ## pin the dependencies of pyproject.toml anew (needs uv)
	@.ci/requirements

clean: ## remove .venv, caches and the demo's data; refuses while servers run
	@$(or $(PYTHON),python3) teji/clean.py

# The environment, in steps, each repeated only when what it is made from has changed. Who only wants to see Teji run
# does not wait for the developers' tools.

$(RUNTIME): requirements.txt .ci/environment
	@PYTHON="$(PYTHON)" .ci/environment $(VENV) requirements.txt
	@touch $@

$(DEV): requirements-dev.txt $(RUNTIME)
	@.ci/environment $(VENV) requirements-dev.txt
	@touch $@

$(KERNELS): $(RUNTIME) proto/decode.py market/black76.py ingest/merge.py aggregator/bars.py aggregator/kernel.py gtt/engine/board.py gtt/engine/watch_kernel.py
	@$(BIN)/python -m teji.warm
	@touch $@
