#!/usr/bin/env bash
# Builds both crates for Windows and runs them under Wine. What Wine can't show is in docs/windows.md.
#
#   scripts/windows_under_wine.sh [unit] [worker] [harness]     # all three without a name
#
# unit      the unit tests of both crates
# worker    the worker over the embedded model, asked by a client of this system
# harness   `worker:test` over that worker, and what a killed run leaves behind
#
# On Debian it installs what it needs. Elsewhere it needs Wine for 64-bit programs, MinGW's gcc for
# x86_64, curl and Rust's target x86_64-pc-windows-gnu.
set -euo pipefail
cd "$(dirname "$0")/.."
target=x86_64-pc-windows-gnu
folder=$PWD/target/wine
port=18481
golden=' Mia found a cup in the box. "Oh no!" said Mia.'

find_wine() { command -v wine64 || command -v wine || ls /usr/lib/wine/wine64 2>/dev/null; }
if ! wine=$(find_wine) || ! command -v x86_64-w64-mingw32-gcc >/dev/null; then
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends wine64 gcc-mingw-w64-x86-64 curl
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
    --skip git::tests::an_archive_in_somebody \
    --skip raw::tests::a_reset_is_a_reset --skip file::tests::runs_that_write_to_one_path
  cargo test --target "$target" -p llm-worker-rbee --lib -- \
    --skip kernels::tests::all_processors_multiply_alike \
    --skip kernels::tests::norms_and_gates_are_right \
    --skip ops::tests::attention_does_not_depend
}

build() { cargo build --target "$target" -p llm-worker-rbee -p xtask; }

# A process of Windows by the name of its program: its number there.
pids_of() { "$wine" tasklist /fo csv 2>/dev/null | tr -d '\r' | awk -F'","' -v n="$1" 'index($1, n) {print $2}'; }

fail() { echo "FAILED: $1" >&2; exit 1; }

worker() {
  build
  local program=target/$target/debug/llm-worker-rbee.exe log=$folder/worker.log
  "$wine" "$program" --worker-id wine --model .test-models/tiny/tiny.gguf --model-ref embedded:tiny \
    --backend cpu --device 0 --port $port --hive-url http://127.0.0.1:9 2>"$log" &
  local pid=$!
  trap 'kill -9 $pid 2>/dev/null || true' EXIT
  curl -sS --retry 60 --retry-delay 1 --retry-all-errors --noproxy '*' \
    "http://127.0.0.1:$port/v1/ready" || fail "it is not ready: $(cat "$log")"
  local answer
  answer=$(curl -sS --noproxy '*' "http://127.0.0.1:$port/v1/inference" -H 'Content-Type: application/json' \
    -d '{"prompt":"Once upon a time","max_tokens":18,"temperature":0}')
  echo; echo "$answer"
  kill -9 $pid; wait $pid 2>/dev/null || true
  trap - EXIT
}

case $# in 0) set -- unit worker harness ;; esac
for part; do "$part"; done
