#!/usr/bin/env bash
# Builds tester and worker for Windows and runs them under Wine. What Wine can't show is in docs/windows.md.
#
#   scripts/windows_under_wine.sh [unit] [worker] [harness]     # all three without a name
#
# unit      the unit tests of the tester, the worker and its engine
# worker    the worker over the embedded model, under this system's `worker:test`
# harness   Windows' own `worker:test` over that worker, and what a killed run leaves behind
#
# It wants a quiet machine, as programs start slowly under Wine. On Debian it installs what it needs;
# elsewhere it needs Wine for 64-bit programs, MinGW's gcc for x86_64 and Rust's target
# x86_64-pc-windows-gnu.
set -euo pipefail
cd "$(dirname "$0")/.."
target=x86_64-pc-windows-gnu
folder=$PWD/target/wine

find_wine() { command -v wine64 || command -v wine || ls /usr/lib/wine/wine64 2>/dev/null; }
if ! wine=$(find_wine) || ! command -v x86_64-w64-mingw32-gcc >/dev/null; then
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends wine64 gcc-mingw-w64-x86-64
  wine=$(find_wine)
fi
rustup target list --installed | grep -q "$target" || rustup target add "$target"

mkdir -p "$folder"
export WINEPREFIX=$folder/prefix WINEDEBUG=${WINEDEBUG:--all} WINEPATH=$folder
# No installer of Mono or Gecko, and no menu entries.
export WINEDLLOVERRIDES="mscoree=;mshtml=;winemenubuilder.exe="
export CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER=$wine

# Wine 8 has no bcryptprimitives.dll, from which Rust's standard library takes random numbers.
if [ ! -e "$folder/bcryptprimitives.dll" ]; then
  x86_64-w64-mingw32-gcc -shared -o "$folder/bcryptprimitives.dll" -x c - -x none -ladvapi32 <<'C'
#include <windows.h>
BOOLEAN NTAPI SystemFunction036(PVOID, ULONG);
__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T length) {
  return SystemFunction036(data, (ULONG)length);
}
C
fi

unit() {
  cargo test --target "$target" -p xtask --bin xtask -- \
    --skip model::download::tests --skip python::tests::the_interpreter_itself \
    --skip hive::tests::it_asks_no_name_server --skip mutants::coverage \
    --skip git::tests::an_archive_in_somebody --skip other_worker::tests::another_revision \
    --skip raw::tests::a_reset_is_a_reset --skip file::tests::runs_that_write_to_one_path
  cargo test --target "$target" -p llm-worker-rbee -p llm-engine --lib -- \
    --skip kernels::tests::all_processors_multiply_alike \
    --skip kernels::tests::norms_and_gates_are_right \
    --skip ops::tests::attention_does_not_depend
}

programs=target/$target/debug

build() { cargo build --target "$target" -p llm-worker-rbee -p xtask; }

fail() {
  echo "FAILED: $1" >&2
  exit 1
}

# This system's `worker:test` is the client from outside.
worker() {
  build
  # Else the server of an earlier Wine would be the stranger that holds the ports.
  "${wine%/*}/wineserver64" -k || true
  printf '#!/bin/sh\nexec "%s" "%s" "$@"\n' "$wine" "$PWD/$programs/llm-worker-rbee.exe" >"$folder/worker"
  chmod +x "$folder/worker"
  echo "lifecycle.no_survivors Wine's own services go on after the worker's end" >"$folder/known-failures"
  cargo xtask worker:test --quiet --port 0 --hive-port 0 --model tiny --timeout 120 \
    --artifacts "$folder/worker-test" --worker-bin "$folder/worker" \
    --worker-env WINEPREFIX --worker-env WINEDEBUG --worker-env WINEPATH --worker-env WINEDLLOVERRIDES \
    --known-failures "$folder/known-failures" --skip shutdown.orderly --skip streams.as_made
}

# This script can't install a Python for Windows, so there is no hive: the protocol that needs none is
# tried.
test_in_wine() {
  "$wine" "$programs/xtask.exe" worker:test --quiet --port 0 --dialect openai --model tiny \
    --timeout 120 --artifacts "$folder/harness-test" \
    --worker-cmd "$programs/llm-worker-rbee.exe --worker-id $1 --model {model} --model-ref {model_ref} \
--backend {backend} --device {device} --port {port} --hive-url http://127.0.0.1:9" "${@:2}"
}

harness() {
  build
  test_in_wine wine-whole --skip shutdown.orderly
  # Nothing of ours runs after this kill: the system closes the job, and ends who is in it.
  test_in_wine wine-killed &
  # The run's own command line has a `{` where the worker's has the model.
  local run=$! worker='wine-killed --model [^{]'
  for _ in $(seq 600); do pgrep -f "$worker" >/dev/null && break; sleep 0.1; done
  pgrep -f "$worker" >/dev/null || fail "the run has started no worker"
  kill -9 "$run" $(pgrep -P "$run") 2>/dev/null || true
  for _ in $(seq 100); do pgrep -f "$worker" >/dev/null || break; sleep 0.1; done
  pgrep -af "$worker" && fail "the worker of a killed run lives on"
  echo "nothing is left of a run that was killed"
}

case $# in 0) set -- unit worker harness ;; esac
for part; do "$part"; done
