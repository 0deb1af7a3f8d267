SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

GO ?= go
BIN := bin
# Everything is built without C, so that the programs run on any Linux.
GO_BUILD := CGO_ENABLED=0 $(GO) build -trimpath

# internal/temporalserver builds the same program where there is no make.
TEMPORAL_CLI := github.com/temporalio/cli
TEMPORAL_VERSION = $(shell sed -n 's|^.*$(TEMPORAL_CLI) v\([0-9.]*\).*|\1|p' tools/temporal/go.mod)
TEMPORAL_LDFLAGS = -s -w -X $(TEMPORAL_CLI)/temporalcli.Version=$(TEMPORAL_VERSION)

# Packages that only drive built programs: the race detector would watch
# nothing there. All others are tested under it.
NO_RACE := ^lifeboat/(internal/chaos|internal/e2e|deploy)(/|$$)
# Two packages at a time: on two cores more only makes time-outs likelier.
TEST_FLAGS ?= -p 2 -timeout 20m
PKG ?= ./...
KILLS ?= 500
PROVIDER ?= local
CASES ?= 10000
FUZZTIME ?= 10s
BENCH ?= .
RUNS ?= 5
JOBS ?=
SIZE ?= 4G

.PHONY: help build temporal deps compose test test-aws check lint demo chaos replay record fuzz bench microbench soak-copy docs clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 18

build: ## bin/lifeboat and bin/lifeboat-worker
	$(GO_BUILD) -o $(BIN)/lifeboat ./starter
	$(GO_BUILD) -o $(BIN)/lifeboat-worker ./worker

temporal: $(BIN)/temporal ## bin/temporal, the pinned Temporal server (built once, about 2 minutes)

$(BIN)/temporal: tools/temporal/go.mod tools/temporal/go.sum
	@echo "building Temporal $(TEMPORAL_VERSION) (once, about 2 minutes)"
	cd tools/temporal && $(GO_BUILD) -ldflags '$(TEMPORAL_LDFLAGS)' -o ../../$@ $(TEMPORAL_CLI)/cmd/temporal

$(BIN)/staticcheck $(BIN)/workflowcheck &: tools/lint/go.mod tools/lint/go.sum
	cd tools/lint && $(GO_BUILD) -o ../../$(BIN)/ tool && cd ../.. && touch $(BIN)/staticcheck $(BIN)/workflowcheck

compose: $(BIN)/docker-compose ## bin/docker-compose, which checks docker-compose.yml without an engine

$(BIN)/docker-compose: tools/compose/go.mod tools/compose/go.sum
	cd tools/compose && $(GO_BUILD) -ldflags '-s -w' -o ../../$@ github.com/docker/compose/v2/cmd

$(BIN)/testreport: $(wildcard tools/testreport/*.go) tools/testreport/go.mod
	cd tools/testreport && $(GO_BUILD) -o ../../$@ .

deps: ## system packages of the tests and the demo (root on Debian), else what is missing
	@.ci/deps

test: deps build temporal compose lint check ## everything: packages, programs, lint, all tests

# One pass, each test once. The two runs of go test are reported as one.
check: $(BIN)/testreport ## the tests alone, with what is built already (PKG=./activities/...)
	@if [ -x $(BIN)/temporal ]; then export LIFEBOAT_TEMPORAL=$(CURDIR)/$(BIN)/temporal; fi; \
	if [ -x $(BIN)/docker-compose ]; then export LIFEBOAT_COMPOSE=$(CURDIR)/$(BIN)/docker-compose; fi; \
	packages=$$($(GO) list $(PKG)); \
	plain=$$(grep -E '$(NO_RACE)' <<<"$$packages" || true); \
	raced=$$(grep -vE '$(NO_RACE)' <<<"$$packages" || true); \
	{ status=0; \
	  $(GO) test -C tools/testreport -json ./... || status=1; \
	  $(GO) test -C tools/bench -json ./... || status=1; \
	  if [ -n "$$raced" ]; then $(GO) test -json -race $(TEST_FLAGS) $$raced || status=1; fi; \
	  if [ -n "$$plain" ]; then $(GO) test -json -count=1 $(TEST_FLAGS) $$plain || status=1; fi; \
	  exit $$status; \
	} | $(BIN)/testreport $(if $(filter true 1,$(CI)),-no-skips)

lint: $(BIN)/staticcheck $(BIN)/workflowcheck ## gofmt, go vet, staticcheck, workflowcheck
	@unformatted=$$(gofmt -l $$(git ls-files --cached --others --exclude-standard '*.go' | xargs -r ls 2>/dev/null)); \
	if [ -n "$$unformatted" ]; then echo "not formatted, run gofmt -w on:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(GO) vet -C tools/testreport ./...
	$(GO) vet -C tools/bench ./...
	$(BIN)/staticcheck ./...
	$(BIN)/workflowcheck -test=false -config tools/lint/workflowcheck.yaml ./workflows/... ./worker/...

demo: deps build temporal ## the whole life cycle on real data, with the measured RPO and RTO
	$(BIN)/lifeboat demo

chaos: build temporal ## the long fault campaign (KILLS=500, PROVIDER=aws on the double of AWS, SEED=n to repeat one)
	LIFEBOAT_TEMPORAL=$(CURDIR)/$(BIN)/temporal $(GO) test ./internal/chaos -count=1 -v -timeout 0 \
		-run '^$(if $(filter aws,$(PROVIDER)),TestChaosOnAWS,TestChaos)$$' \
		-args -chaos.kills=$(KILLS) $(if $(SEED),-chaos.seed=$(SEED))

# Settings are variables LIFEBOAT_AWS_…, see docs/aws-figures.md; what carries Lifeboat's tags in that account is deleted.
test-aws: build temporal ## AWS in an account of tests, or what AWS_ENDPOINT_URL names: conformance and one life cycle
	LIFEBOAT_AWS_TEST=1 $(GO) test ./activities/cloud/aws -count=1 -v -timeout 0 -parallel 1 -run '^TestConformance$$'
	LIFEBOAT_AWS_TEST=1 LIFEBOAT_TEMPORAL=$(CURDIR)/$(BIN)/temporal $(GO) test ./internal/e2e -count=1 -v -timeout 0 -run '^TestOneLifeCycleOfAWS$$'

soak-copy: ## many copies killed at random, in one process and as programs (CASES=10000, SEED=n to repeat)
	$(GO) test ./internal/soakcopy -count=1 -v -timeout 0 \
		-args -soak.cases=$(CASES) -soak.kills=$(KILLS) $(if $(SEED),-soak.seed=$(SEED))

replay: ## recorded workflow histories against today's code
	$(GO) test ./workflows/... -count=1 -v -run Replay

record: ## histories of the server at TEMPORAL_ADDRESS, for replay (after a life cycle was run there)
	rm -f workflows/testdata/replay/*.json.gz
	$(GO) test ./workflows -tags record -count=1 -run TestRecord

fuzz: ## every fuzz target for FUZZTIME
	@for package in $$($(GO) list ./...); do \
		for target in $$($(GO) test -run '^$$' -list '^Fuzz' $$package | grep '^Fuzz' || true); do \
			echo "$$package $$target"; \
			$(GO) test $$package -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 5x; \
		done; \
	done

# As root in namespaces of its own. With WRITE=1 docs/benchmarks.md gets the tables;
# with RESUME=1 the jobs that the last run finished are kept.
bench: build $(BIN)/bench ## the copy against its peers and the machine's limits (RUNS=5 JOBS=full,inc1 SIZE=4G WRITE=1)
	@tools/bench/deps
	$(BIN)/bench -lifeboat $(BIN)/lifeboat -runs $(RUNS) -jobs '$(JOBS)' -size $(SIZE) \
		$(if $(DISK),-disk '$(DISK)') $(if $(RESUME),-resume) $(if $(WRITE),-write docs/benchmarks.md)

$(BIN)/bench: $(wildcard tools/bench/*.go tools/bench/*/*.go) tools/bench/go.mod
	cd tools/bench && $(GO_BUILD) -o ../../$@ .

microbench: ## Go benchmarks of single functions (BENCH=pattern)
	$(GO) test ./... -run '^$$' -bench '$(BENCH)' -benchmem -timeout 0

docs: ## generated files: plan reference, JSON Schema, CLI pages, pinned versions
	$(GO) generate ./...

clean: ## removes bin/
	rm -rf $(BIN)
