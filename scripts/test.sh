#!/usr/bin/env bash
# Installs what the tests need and runs every test; arguments go to `cargo test` (scripts/test.sh --test integration damage).
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh --tests
exec cargo test --workspace --locked "$@"
