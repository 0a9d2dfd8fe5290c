#!/usr/bin/env bash
# Makes SmolLM2-135M-Instruct in Q8_0 and Q4_0 from the Q4_1 file that the catalog downloads, for
# the benchmark: they measure kernels, and are no better than what they were made from.
#
#   scripts/requantise.sh MODEL.Q4_1.gguf FOLDER
#
# Needs `llama-quantize` of llama.cpp on the PATH.
set -euo pipefail
if [ $# -ne 2 ]; then
  echo "usage: requantise.sh MODEL.Q4_1.gguf FOLDER" >&2
  exit 2
fi
model=$1
folder=$2
mkdir -p "$folder"
name=$(basename "$model" .gguf)
name=${name%.Q4_1}
for kind in Q8_0 Q4_0; do
  llama-quantize --allow-requantize "$model" "$folder/$name.$kind.gguf" "$kind"
done
