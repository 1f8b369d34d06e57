#!/usr/bin/env bash
# Checks formatting, lints, documentation and all tests: the one command before a change is handed in. Ends with the time of each step.
set -euo pipefail
cd "$(dirname "$0")/.."

times=()
show_times() {
  echo
  echo "Seconds by step:"
  printf '%s\n' "${times[@]}"
}
trap show_times EXIT

step() {
  local start=$SECONDS code=0
  echo "+ $*"
  "$@" || code=$?
  times+=("$(printf '%8d %s' "$((SECONDS - start))" "$*")")
  return "$code"
}

step scripts/setup.sh --tests
step cargo fmt --all --check
step cargo clippy --workspace --all-targets --locked -- -D warnings
step env RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --locked
step cargo test --workspace --locked --no-run
step scripts/test.sh
