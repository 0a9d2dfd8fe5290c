#!/usr/bin/env bash
# Runs worker:test from another project's CI job, in that project's folder. The options come as
# variables, so that nothing in them is taken for shell code; `action.yml` and `docs/gitlab-ci.yml` set them.
#
#   WORKER_TEST_WORKER_BIN, WORKER_TEST_WORKER_CMD, WORKER_TEST_ATTACH   which worker
#   WORKER_TEST_MODEL, WORKER_TEST_DIALECT, WORKER_TEST_SUITE, WORKER_TEST_KNOWN_FAILURES
#   WORKER_TEST_ARGS        more options, separated by spaces
#   WORKER_TEST_XTASK       an xtask that is built already; without it this repository's is built
#   WORKER_TEST_ARTIFACTS   where the run's folder goes; `worker-test` without it
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
artifacts=${WORKER_TEST_ARTIFACTS:-worker-test}
args=(worker:test --port 0 --hive-port 0 --artifacts "$artifacts")
for option in worker-bin worker-cmd attach model dialect suite known-failures; do
  variable=WORKER_TEST_$(tr 'a-z-' 'A-Z_' <<<"$option")
  if [ -n "${!variable:-}" ]; then
    args+=("--$option" "${!variable}")
  fi
done
read -ra more <<<"${WORKER_TEST_ARGS:-}"
xtask=("${WORKER_TEST_XTASK:-}")
if [ -z "${WORKER_TEST_XTASK:-}" ]; then
  xtask=(cargo run --quiet --manifest-path "$here/Cargo.toml" --package xtask --)
fi
# An empty array is an unset variable to the bash of macOS.
exec "${xtask[@]}" "${args[@]}" ${more[@]+"${more[@]}"}
