# topofix: set up, try, test. `make` alone lists the targets.
#
# On Linux, PyPI's torch comes with gigabytes of CUDA libraries. The CPU build does for everything here:
#     make install PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
# pip's other settings (PIP_INDEX_URL, PIP_FIND_LINKS, PIP_CERT, ...) work the same way or from the environment.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
NATIVE := $(wildcard topofix/topology/native/*)
DEMO := build/demo/hippocampus_refined.nii.gz
REPORT := build/demo/report.html
SECONDS ?= 60
FUZZ_FLAGS := -std=c++17 -O2 -g -Wall -Wextra -Werror -fno-sanitize-recover=all -pthread

.DEFAULT_GOAL := help
.PHONY: help install audit demo test test-faults fuzz lint types sanitize sanitize-threads bench-paper-quick samples clean

help: ## List these targets.
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1 \2/p' $(MAKEFILE_LIST) | while read -r target sentence; do \
		printf '  make %-16s %s\n' "$$target" "$$sentence"; done

install: $(INSTALLED) ## Install topofix and its tools into .venv, with the versions of constraints.txt.

$(INSTALLED): pyproject.toml constraints.txt $(NATIVE)
	@$(PYTHON) -c 'import sys; sys.exit("topofix needs Python 3.11 or newer and this is %d.%d: name another one, \
	like make install PYTHON=python3.12" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -c constraints.txt -e ".[dev]"
	touch $@

demo: $(INSTALLED) ## Correct a sample segmentation, show its barcode and count its topology independently.
	$(BIN)/topofix refine sample_data/hippocampus.nii.gz --betti 1,0,0 --output $(DEMO) --report $(REPORT) --overwrite
	$(BIN)/topofix barcode $(DEMO) --input-type labels --betti 1,0,0
	$(BIN)/python sample_data/count.py $(DEMO)
	@echo "open $(REPORT) in a browser to see what was changed"

test: $(INSTALLED) ## Run the whole test suite.
	$(BIN)/python -m pytest

test-faults: $(INSTALLED) ## Run the tests of faults and hostile inputs in full, in half an hour.
	TOPOFIX_FAULTS=full $(BIN)/python -m pytest tests/faults

fuzz: $(INSTALLED) build/fuzz_kernel ## Try the kernel, parsers and readers on random inputs, for SECONDS=60 each.
	$(BIN)/python fuzz/run.py --seconds $(SECONDS)

lint: $(INSTALLED) ## Check style and formatting.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $(filter %.hpp %.cpp,$(NATIVE)) tests/native/*.cpp

types: $(INSTALLED) ## Check the types.
	$(BIN)/python -m mypy

sanitize: build/kernel-address,undefined ## Run the kernel's own tests with the address and undefined-behaviour sanitizers.
	$<

sanitize-threads: build/kernel-thread ## Run them with the thread sanitizer.
	$<

build/fuzz_kernel: tests/native/fuzz_kernel.cpp tests/native/fuzz_driver.cpp $(NATIVE)
	mkdir -p build
	command -v clang++ >/dev/null && clang++ $(FUZZ_FLAGS) -fsanitize=fuzzer,address,undefined $< -o $@ || \
		$(CXX) $(FUZZ_FLAGS) -fsanitize=address,undefined $(filter %.cpp,$(wordlist 1,2,$^)) -o $@

build/kernel-%: tests/native/test_kernel.cpp $(NATIVE)
	mkdir -p build
	$(CXX) -std=c++17 -O1 -g -Wall -Wextra -Werror -fsanitize=$* -fno-sanitize-recover=all $< -o $@ -pthread

audit: build/audit/bin/pip-audit ## Ask PyPI for known vulnerabilities of the packages in constraints.txt.
	$< --disable-pip --no-deps --requirement constraints.txt

build/audit/bin/pip-audit:
	$(PYTHON) -m venv build/audit
	build/audit/bin/python -m pip install --quiet pip-audit

bench-paper-quick: $(INSTALLED) ## Repeat the paper's experiments in small, in half an hour.
	printf '%s\n' volumes acdc left_ventricle mnist robustness | xargs -P 2 -I NAME \
		$(BIN)/python benchmarks/paper/NAME.py --quick

samples: $(INSTALLED) ## Make the synthetic files of sample_data anew.
	$(BIN)/python sample_data/make_samples.py

clean: ## Remove .venv and everything that was built or cached.
	rm -rf .venv build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
