# make demo: train, quantize, compare.  make test: the test suite.  Each makes its own virtual environment in .venv.
# make parity: compare live with PyTorch, ONNX Runtime and transformers (installs them).  make lint: ruff and mypy.
# make test-aarch64: the kernel tests on an emulated aarch64 (installs a cross-compiler and qemu; takes some 5 minutes).
# make test-versions: the suite on Python 3.10 with the oldest NumPy, on 3.13 with the newest; kernels built by Clang.
# make sanitize: the tests of kernels, plans and files, and damaged plans, under GCC's address and undefined-behaviour sanitizers.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := setup.py pyproject.toml $(wildcard tinyml/*.pyx tinyml/_kernels/table.py tinyml/_kernels/*.pyx $(foreach kind,pyx pxi pxd h,tinyml/_kernels/*/*.$(kind)))

.PHONY: demo test test-aarch64 test-versions sanitize parity lint clean

demo: $(VENV)/.run
	$(BIN)/python -m tinyml demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest

# only downloads with this Python: the kernels are built by the one that is emulated
test-aarch64:
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	PYTHON=$(BIN)/python tools/test_aarch64.sh

test-versions:
	PYTHON=$(PYTHON) tools/test_versions.sh

sanitize:
	PYTHON=$(PYTHON) tools/sanitize.sh

parity: $(VENV)/.parity
	$(BIN)/python -m pytest -m parity

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/mypy

# Installed in place ("editable"): the checkout is what runs. Kernels are built again when their sources change.
$(VENV)/.run: $(SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.dev: $(SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $(VENV)/.run $@

$(VENV)/.parity: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet 'torch==2.13.0' 'onnx==1.23.2' "onnxruntime==1.31.1; python_version >= '3.11'" \
		'expecttest==0.3.0' 'threadpoolctl==3.8.0' 'matplotlib>=3.7' 'transformers==5.23.0'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
	find tinyml -name '*.so' -delete
