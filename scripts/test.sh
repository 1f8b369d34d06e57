#!/usr/bin/env bash
# Installs what the tests need, runs every test, and shows which took longest; arguments go to `cargo test`
# (scripts/test.sh --test integration damage). The times of all are in target/test-times.txt.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh --tests

# Tests write much and keep nothing: in memory, if there is room for it and programs may run there, they do not wait for the disk.
memory=/dev/shm
if [ -z "${TMPDIR:-}" ] && [ "$(stat -f -c %T "$memory" 2>/dev/null)" = tmpfs ] && [ -w "$memory" ] &&
  ! findmnt -n -o OPTIONS -T "$memory" | grep -qw noexec &&
  [ "$(df --output=avail -B 1M "$memory" | tail -n 1)" -ge 4096 ] && [ "$(awk '/^MemAvailable/ { print int($2 / 1024) }' /proc/meminfo)" -ge 6144 ]; then
  export TMPDIR="$memory"
fi
# One more than there are processors, since some wait.
export RUST_TEST_THREADS="${RUST_TEST_THREADS:-$(($(nproc) + 1))}"
mkdir -p target
cargo test --workspace --locked "$@" 2>&1 | /usr/bin/python3 scripts/times.py target/test-times.txt
