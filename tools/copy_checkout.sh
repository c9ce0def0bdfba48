#!/bin/sh
# Copies the checkout into FOLDER, made anew, as a fresh clone of it is: nothing that was built or installed comes along.
set -eu
cd "$(dirname "$0")/.."
rm -rf "$1"
mkdir -p "$1"
tar -c --exclude=./.git --exclude=./.venv --exclude=./build --exclude='*.so' --exclude='*.egg-info' --exclude=__pycache__ \
  --exclude='./.*_cache' --exclude=./.hypothesis . | tar -x -C "$1"
