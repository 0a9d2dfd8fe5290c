#!/bin/sh
# Runs the good worker again and again, with one core kept busy on purpose, and counts the alarms: each
# is a false one. What was blamed is in the evidence of its run.
#
#   scripts/false_alarms.sh RUNS [SUITE]     (isolation and contract; or a suite, or all)
#
# WORKER_BIN is another worker than the tests' own, SECONDS_AT_MOST ends it sooner.
set -eu
cd "$(dirname "$0")/.."
runs=${1:?how many runs}
suites=${2:+--suite $2}
worker=${WORKER_BIN:-xtask/tests/faulty_worker.py}
until=$(($(date +%s) + ${SECONDS_AT_MOST:-1000000}))
folder=target/false-alarms
rm -rf "$folder"
mkdir -p "$folder"
cargo build --quiet -p xtask

while :; do :; done &
busy=$!
trap 'kill $busy 2>/dev/null' EXIT

done=0
failed=0
unjudged=0
while [ "$done" -lt "$runs" ] && [ "$(date +%s)" -lt "$until" ]; do
  done=$((done + 1))
  status=0
  # shellcheck disable=SC2086
  target/debug/xtask worker:test --worker-bin "$worker" --port 0 --hive-port 0 $suites \
    --artifacts "$folder/$done" >"$folder/$done.txt" 2>&1 </dev/null || status=$?
  case $status in
  0) rm -rf "${folder:?}/$done" "$folder/$done.txt" ;;
  3)
    unjudged=$((unjudged + 1))
    echo "run $done could not judge: $folder/$done.txt"
    ;;
  1)
    failed=$((failed + 1))
    echo "run $done blames the worker: $folder/$done.txt"
    ;;
  *)
    cat "$folder/$done.txt"
    exit "$status"
    ;;
  esac
done
echo "$done runs of ${2:-isolation and contract}: $failed alarms, $unjudged could not judge;" \
  "$(nproc) cores, load $(cut -d' ' -f1-3 /proc/loadavg 2>/dev/null || uptime), $(date +%F)"
[ "$failed" -eq 0 ]
