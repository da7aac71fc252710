# Every target here is what a developer or .ci/run calls; `make help` lists them.

SHELL := /bin/sh
.DEFAULT_GOAL := help

CONFIG   ?= configs/denywatch.example.yaml
FUZZTIME ?= 5s
BENCH    ?= .
COUNT    ?= 1
ARGS     ?= -setting standard,small,eager -rivals
PKG      ?= ./...

# A go.work in a parent folder must not change what is built here.
export GOWORK := off

# Tests run in their packages' folders, so a relative corpus path would point
# nowhere. Unset stays unset: tests that need the corpus then skip and say so.
ifneq ($(strip $(DENYWATCH_CORPUS)),)
override DENYWATCH_CORPUS := $(abspath $(DENYWATCH_CORPUS))
export DENYWATCH_CORPUS
endif

# The tools have a module of their own, so that their dependencies are not ours.
GOTOOL := go tool -modfile=.ci/tools/go.mod

# The race detector needs cgo and a C compiler.
RACE := $(shell CGO_ENABLED=1 sh -c 'cc=$$(go env CC) && command -v $${cc%% *}' >/dev/null 2>&1 && echo -race)

# Where git refuses to answer (a checkout owned by another user), build without
# the revision instead of failing.
VCS := $(shell git status --porcelain >/dev/null 2>&1 || echo -buildvcs=false)

# What the race detector shortens (raceOn in these packages) is tested once more in
# full without it: it makes some tests take minutes, and bounds on memory meaningless.
FULL := Null|FindsWalls|Sampled|SavedIsAll|Restarts|ThousandFiles|ThousandSenders|Bombs|ReplayAllocations

.PHONY: help build demo run test race fuzz-short bench bench-detect lint fmt check cover clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build bin/denywatch, a static binary
	CGO_ENABLED=0 go build -trimpath $(VCS) -o bin/denywatch ./cmd/denywatch

demo: build ## watch a simulated product lose a route for one role and get it back
	bin/denywatch demo

run: build ## run the daemon with CONFIG=FILE
	bin/denywatch run --config $(CONFIG)

test: ## vet and test everything, with the race detector where there is a C compiler
	go vet $(PKG)
ifeq ($(RACE),)
	@echo '*** NO C COMPILER FOUND: THE RACE DETECTOR IS OFF. Install gcc to turn it on. ***' >&2
	CGO_ENABLED=0 go test -timeout 40m $(PKG)
	@echo '*** tested WITHOUT the race detector: no C compiler ***' >&2
else
	CGO_ENABLED=1 go test -race -timeout 40m $(PKG)
	CGO_ENABLED=0 go test -timeout 40m -run '$(FULL)' ./detector ./ingest/file ./ingest/push ./internal/app
endif

race: ## test with the race detector or fail, each test COUNT times
	CGO_ENABLED=1 go test -race -timeout 40m -count=$(COUNT) $(PKG)

fuzz-short: ## run every fuzz target for FUZZTIME
	@.ci/fuzz $(FUZZTIME)

bench: ## run the benchmarks that match BENCH, COUNT times, for benchstat
	go test -run '^$$' -bench '$(BENCH)' -benchmem -count=$(COUNT) $(PKG)

bench-detect: ## measure what the judge finds on labelled traffic, beside the usual rules; ARGS="-h" lists options
	go run ./internal/sim/bench $(ARGS)

lint: ## run golangci-lint, pinned in .ci/tools
	$(GOTOOL) golangci-lint run $(PKG)

fmt: ## format the code
	$(GOTOOL) golangci-lint fmt

check: ## what a change must pass before review, tests aside: format, vet, lint, import direction
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "not gofmt-formatted (run make fmt):" >&2; echo "$$unformatted" >&2; exit 1; fi
	go vet ./...
	$(GOTOOL) golangci-lint run ./...
	go test ./internal/archtest

cover: ## test and say how much of the code the tests reach
	go test -coverprofile=coverage.out $(PKG)
	@go tool cover -func=coverage.out | tail -n 1

clean: ## remove what the other targets built
	rm -rf bin dist coverage.out
