#!/bin/sh
# Runs the kernel tests on an emulated aarch64; `make test-aarch64` calls it. Needs Debian (or a system with its packages).
#
# build/aarch64 gets an arm64 Python, unpacked from Debian's packages without installing any, with NumPy and pytest from
# their aarch64 wheels. That Python runs under qemu-user and builds the kernels as it would on its own machine, only that
# the compiler it calls is the host's cross-compiler. Emulated times say nothing about speed.
set -eu
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}       # any Python with pip, to download wheels
PLACE=$PWD/build/aarch64
ROOT=$PLACE/root
TARGET=$ROOT/usr/bin/python

fail() { echo "test_aarch64: $*" >&2; exit 1; }

tools() {
  command -v aarch64-linux-gnu-gcc && command -v qemu-aarch64
}

apt_arm64() {   # apt-get as on an arm64 machine with nothing installed, with lists and archives of its own
  apt-get -q -y -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::State="$PLACE/apt" \
    -o Dir::State::status="$PLACE/apt/status" -o Dir::Cache="$PLACE/apt" "$@"
}

install_tools() {
  packages="gcc-aarch64-linux-gnu qemu-user"
  command -v apt-get || fail "needs aarch64-linux-gnu-gcc and qemu-aarch64, and apt-get for an arm64 Python"
  test "$(id -u)" = 0 || fail "needs a cross-compiler and an emulator; as root: apt-get install $packages"
  # shellcheck disable=SC2086
  apt-get -q update && apt-get -q -y install $packages || fail "apt-get could not install $packages"
}

unpack_python() {
  rm -rf "$PLACE"
  mkdir -p "$PLACE/apt/lists/partial" "$PLACE/apt/archives/partial" "$ROOT"
  : >"$PLACE/apt/status"
  apt_arm64 update && apt_arm64 --no-install-recommends --download-only install python3 libpython3-dev libgomp1 libstdc++6 ||
    fail "apt-get has no arm64 packages of python3 here; Debian's archive has them"
  for package in "$PLACE"/apt/archives/*.deb; do dpkg -x "$package" "$ROOT"; done
  # a script, so that what Python starts with sys.executable is emulated too
  printf '#!/bin/sh\nexec qemu-aarch64 -L "%s" -0 "$0" "%s/usr/bin/python3" "$@"\n' "$ROOT" "$ROOT" >"$TARGET"
  chmod +x "$TARGET"
  "$PYTHON" -m pip install --quiet --disable-pip-version-check --target "$ROOT/usr/lib/python3/dist-packages" \
    --python-version "$("$TARGET" -c 'import sys; print("%d.%d" % sys.version_info[:2])')" --only-binary=:all: \
    --platform manylinux_2_28_aarch64 --platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64 \
    numpy tqdm safetensors cython setuptools pytest hypothesis
}

tools >/dev/null || install_tools
export QEMU_CPU=max     # with every extension
if ! cmp -s "$0" "$PLACE/made-by"; then
  unpack_python
  cp "$0" "$PLACE/made-by"
fi
include=$("$TARGET" -c 'import sysconfig; print(sysconfig.get_path("include"))')
CC=aarch64-linux-gnu-gcc CFLAGS="-I$include -I$ROOT/usr/include" "$TARGET" setup.py --quiet build_ext --inplace
QEMU_CPU=cortex-a72 "$TARGET" -c "from tinyml._kernels import dispatch; assert dispatch.available() == ['neon', 'baseline']"
"$TARGET" -m pytest tests/test_kernels_*.py tests/test_dispatch.py tests/test_requantize.py
