# Every target sets up what it needs in .venv, and says so; quietly when it is there.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# The first Python of at least 3.11; `make PYTHON=/path/to/python3.12 test` chooses another.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; \
	done)
VENV := .venv
BIN := $(VENV)/bin
C_SOURCES := $(wildcard csrc/*.c csrc/*.h csrc/python/*.c csrc/python/*.h)
C_TESTS := $(wildcard tests/c/*.c tests/c/*.h tests/c/relacy/*.cpp tests/c/relacy/*.h bench/c/*.c bench/c/*.h bench/c/*.cpp)
C_WARNINGS := -std=gnu11 -D_GNU_SOURCE -O2 -Wall -Wextra -Wpedantic -Wconversion -Werror
# CPython keeps functions in void pointers, which ISO C forbids.
PYTHON_WARNINGS = $(filter-out -Wpedantic,$(C_WARNINGS)) -DPy_LIMITED_API=0x030b0000 \
	-isystem $(shell $(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("include"))')
INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check

.PHONY: help demo test bench figures verify standard soak lint types format wheels clean

help:
	@echo "make demo    two processes, real files, every answer checked, the figures"
	@echo "make test    the tests"
	@echo "make bench   the promised figures, against others and ourselves, and the suite"
	@echo "make figures the claims of the design, each measured and plotted: docs/claims.md"
	@echo "make verify  no wake-up is lost: model, mutants, orders, sanitizers, soak"
	@echo "make standard  the standard library's tests of connections, on our pipes"
	@echo "make soak    a long soak of sleeps and wake-ups, SLEEPS=12000000"
	@echo "make lint    style, warnings and types of C, Python and the code in the pages"
	@echo "make format  put the style right"
	@echo "make wheels  wheel and sdist as an index takes them, tried in empty environments"
	@echo "make clean   remove what the others made"

$(BIN)/python:
	@[ -n "$(PYTHON)" ] || { echo "ringbell needs Python 3.11 or later; none was found" >&2; exit 1; }
	@echo "making a virtual environment in $(VENV), once" >&2
	@"$(PYTHON)" -m venv $(VENV) || { rm -rf $(VENV); \
		echo "cannot make a virtual environment; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@$(INSTALL) --upgrade pip

# One stamp for the package with its extension, one for each group of tools.
$(VENV)/ringbell.stamp: $(BIN)/python pyproject.toml setup.py csrc/build_ffi.py $(C_SOURCES)
	@command -v "$${CC:-cc}" >/dev/null || { \
		echo "ringbell needs a C compiler; on Debian: apt-get install build-essential" >&2; exit 1; }
	@echo "compiling ringbell, which takes a minute" >&2
	@$(INSTALL) --editable '.[cli]' 2>$(VENV)/install.log || { cat $(VENV)/install.log >&2; exit 1; }
	@touch $@

# The one that is an extra: for users' plots, too.
$(VENV)/plot.stamp: $(VENV)/ringbell.stamp
	@$(INSTALL) --editable '.[plot]' 2>$(VENV)/install.log || { cat $(VENV)/install.log >&2; exit 1; }
	@touch $@

# The libraries that we are compared with, as many as install; remove the stamp to try again.
$(VENV)/peers.stamp: $(BIN)/python bench/peers/install.py
	@$(BIN)/python bench/peers/install.py $(VENV)/peers
	@touch $@

$(VENV)/%.stamp: $(BIN)/python pyproject.toml
	@echo "installing the tools of the group '$*'" >&2
	@$(INSTALL) --group $*
	@touch $@

demo: $(VENV)/ringbell.stamp
	@$(BIN)/ringbell demo

test: $(VENV)/ringbell.stamp $(VENV)/test.stamp
	@$(BIN)/pytest -n 2 --dist loadfile -m "not proof and not variant"

bench: $(VENV)/ringbell.stamp $(VENV)/bench.stamp $(VENV)/peers.stamp
	@$(BIN)/python bench/compare.py
	@$(BIN)/python bench/ratios.py
	@$(BIN)/python bench/streams.py
	@$(BIN)/python bench/many.py
	@$(BIN)/python bench/gather.py
	@$(BIN)/python bench/publish.py
	@$(BIN)/pytest bench --benchmark-columns=min,median,iqr,ops,rounds
	@$(BIN)/python bench/aio.py
	@$(BIN)/python bench/pipe.py
	@$(BIN)/python bench/small_objects.py
	@$(BIN)/python bench/simulators.py

figures: $(VENV)/ringbell.stamp $(VENV)/plot.stamp
	@$(BIN)/python bench/claims

verify: $(VENV)/ringbell.stamp $(VENV)/test.stamp
	@$(BIN)/python tests/verify

standard: $(VENV)/ringbell.stamp
	@$(BIN)/python tests/standard_pipes.py
	@$(BIN)/python tests/standard_pipes.py fork --blocks

SLEEPS ?= 12000000
soak: $(VENV)/ringbell.stamp
	@$(BIN)/python tests/verify --soak $(SLEEPS)

lint: types $(VENV)/lint.stamp
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/clang-format --dry-run --Werror $(C_SOURCES) $(C_TESTS)
	@for source in csrc/*.c; do "$${CC:-cc}" $(C_WARNINGS) -fsyntax-only "$$source"; done
	@for source in csrc/python/*.c; do "$${CC:-cc}" $(PYTHON_WARNINGS) -fsyntax-only "$$source"; done
	@for source in bench/c/*.c; do "$${CC:-cc}" $(C_WARNINGS) -Wno-unused-function -Icsrc -Itests/c \
		-fsyntax-only "$$source"; done

types: $(VENV)/ringbell.stamp $(VENV)/lint.stamp
	@$(BIN)/python tests/check_types.py

format: $(VENV)/ringbell.stamp $(VENV)/lint.stamp
	@$(BIN)/python tests/stub_docs.py
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format --quiet .
	@$(BIN)/clang-format -i $(C_SOURCES) $(C_TESTS)
	@$(BIN)/python tests/model/renumber.py

wheels: $(BIN)/python $(VENV)/dist.stamp
	@rm -rf dist build/lib* build/bdist* build/temp*
	@$(BIN)/python -m build --outdir dist . >$(VENV)/build.log 2>&1 || { cat $(VENV)/build.log >&2; exit 1; }
	@$(BIN)/python tests/check_dist.py
	@bash tests/try_wheels.sh

clean:
	rm -rf $(VENV) build dist *.egg-info ringbell/_ffi.c ringbell/*.so .pytest_cache .mypy_cache \
		.ruff_cache .benchmarks
	find . -name __pycache__ -type d -exec rm -rf {} +
