#!/bin/sh
# Tests what the README promises and this machine's Python does not show; `make test-versions` calls it: the suite on
# Python 3.10 with the oldest versions of NumPy and the rest that pyproject.toml allows, the suite on Python 3.13 with the
# newest, and the kernel, plan and decoder tests in a build by Clang. Each has a copy of the checkout in build/versions,
# and in it an environment of its own.
set -eu
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}       # builds with Clang
PLACE=$PWD/build/versions

fail() { echo "test_versions: $*" >&2; exit 1; }

runs() { "$1" -c 'import ensurepip, venv' >/dev/null 2>&1; }   # a name on the PATH may be a shim without a Python behind it

openmp() { echo '#include <omp.h>
int main(void) { return omp_get_max_threads() < 1; }' | clang -fopenmp -x c - -o /dev/null; }

install_clang() {
  command -v apt-get >/dev/null && test "$(id -u)" = 0 || fail "needs clang with OpenMP; on Debian: apt-get install clang libomp-dev"
  apt-get -q update && apt-get -q -y install --no-install-recommends clang libomp-dev && openmp ||
    fail "apt-get could not install clang and libomp-dev"
}

copy() {    # the name of a copy of the checkout
  echo "=== $2"
  tools/copy_checkout.sh "$PLACE/$1"
}

for python in python3.10 python3.13; do
  runs $python || fail "needs python3.10 and python3.13 on the PATH, with venv and headers; $python is not there, or does not run"
done
openmp 2>/dev/null || install_clang

# "numpy>=1.24", ... as "numpy==1.24", ...
oldest=$(sed -n 's/^dependencies = \[\(.*\)\]/\1/p' pyproject.toml | tr -d '" ' | sed 's/>=/==/g' | tr ',' '\n')
test -n "$oldest" || fail "found no dependencies in pyproject.toml"

copy clang "$(clang --version | head -n 1): kernels, plans, decoder"
(
  cd "$PLACE/clang"
  CC=clang make .venv/.dev PYTHON="$PYTHON"
  .venv/bin/python -c 'from tinyml import config; assert config()["openmp"], config(); print(config())'
  .venv/bin/python -m pytest tests/test_kernels_*.py tests/test_dispatch.py tests/test_requantize.py tests/test_vector_math.py \
    tests/test_plans.py tests/test_program.py tests/test_code_steps.py tests/test_compile.py tests/test_decoder.py \
    tests/test_generation.py
)

copy oldest "$(python3.10 --version), $(echo $oldest)"
echo "$oldest" >"$PLACE/oldest.txt"
PIP_CONSTRAINT="$PLACE/oldest.txt" make -C "$PLACE/oldest" test PYTHON=python3.10

copy newest "$(python3.13 --version), the newest NumPy"
make -C "$PLACE/newest" test PYTHON=python3.13
