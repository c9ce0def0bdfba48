#!/bin/sh
# Runs the tests of kernels, plans and files, and 20,000 plans with something else written into them, on kernels that GCC
# built with its address and undefined-behaviour sanitizers; `make sanitize` calls it. The first fault ends it with a report.
#
# In a copy of the checkout in build/sanitize, with an environment of its own. Signed sums that wrap are meant (setup.py).
set -eu
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
PLACE=$PWD/build/sanitize

fail() { echo "sanitize: $*" >&2; exit 1; }

asan=$(gcc -print-file-name=libasan.so) && test -e "$asan" || fail "needs GCC with libasan; on Debian: apt-get install gcc"

tools/copy_checkout.sh "$PLACE"
cd "$PLACE"
CC=gcc TINYML_SANITIZE=1 make .venv/.dev PYTHON="$PYTHON"

# Python is not built with the sanitizers: they are loaded first. What it never frees is not ours, and its own allocator
# would hide where a small object ends.
sanitized() {
  LD_PRELOAD="$asan" PYTHONMALLOC=malloc ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:hard_rss_limit_mb=8000 \
    UBSAN_OPTIONS=print_stacktrace=1 .venv/bin/python "$@"
}
sanitized -m pytest --capture=sys tests/test_kernels_*.py tests/test_dispatch.py tests/test_requantize.py tests/test_vector_math.py \
  tests/test_plans.py tests/test_program.py tests/test_code_steps.py tests/test_decoder.py \
  tests/test_files.py tests/test_hostile_files.py tests/test_damaged_files.py
sanitized tools/fuzz_plans.py
