#!/usr/bin/env bash
# Compiles the worker with `--features cuda`, with NVIDIA's compiler from Python wheels: no toolkit,
# driver or GPU is needed on this machine, only Python 3 with pip and a C++ compiler that nvcc takes.
#
#   scripts/build_cuda.sh [FOLDER]     # the toolkit's tree, 1 to 2 GB; target/cuda-toolkit without it
#
# CUDA_COMPUTE_CAP says which GPU generation to compile for (90 without it: H100 and H200; 89 for
# an RTX 4090, 86 for an RTX 3090). What comes out is target/cuda/release/llm-worker-rbee. It needs
# NVIDIA's driver and CUDA's libraries where it runs.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(realpath -m "${1:-target/cuda-toolkit}")
export CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-90}

# All of CUDA 13.0, so that the parts fit each other.
packages=(
  nvidia-cuda-nvcc==13.0.88
  nvidia-nvvm==13.0.88
  nvidia-cuda-crt==13.0.88
  nvidia-cuda-runtime==13.0.96
  nvidia-cuda-cccl==13.0.85
  nvidia-cuda-nvrtc==13.0.88
  nvidia-curand==10.4.0.35
  nvidia-cublas==13.0.2.14
)
if [ ! -e "$folder/complete" ]; then
  python3 -m pip install --quiet --no-deps --upgrade --target "$folder" "${packages[@]}"
  touch "$folder/complete"
fi
toolkit=$folder/nvidia/cu13
# The wheels hold libraries with their version in the name only; the linker wants them without.
for library in "$toolkit"/lib/lib*.so.*; do
  ln -sf "$(basename "$library")" "${library%%.so.*}.so"
done
# Some build scripts look for the toolkit's older layout.
ln -sfn lib "$toolkit/lib64"
# The driver's library comes with the driver; to link, one that has all its names will do.
mkdir -p "$folder/stub"
grep -ohE '\bcu[A-Z][A-Za-z0-9_]*' "$toolkit/include/cuda.h" | sort -u | sed 's/.*/void &(void) {}/' |
  cc -shared -x c - -Wl,-soname,libcuda.so.1 -o "$folder/stub/libcuda.so"

export CUDA_HOME=$toolkit CUDA_PATH=$toolkit CUDA_ROOT=$toolkit CUDA_TOOLKIT_ROOT_DIR=$toolkit
export PATH=$toolkit/bin:$PATH
export LIBRARY_PATH=$toolkit/lib:$folder/stub${LIBRARY_PATH:+:$LIBRARY_PATH}
nvcc --version
exec cargo build --release -p llm-worker-rbee --features cuda --target-dir target/cuda
