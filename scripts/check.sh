#!/usr/bin/env bash
# Checks formatting, lints, documentation and all tests: the one command before a change is handed in.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh --tests
set -x
cargo fmt --all --check
cargo clippy --workspace --all-targets --locked -- -D warnings
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --locked
cargo test --workspace --locked
