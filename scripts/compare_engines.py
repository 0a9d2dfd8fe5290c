#!/usr/bin/env python3
"""Measures this project's engine beside llama.cpp and ik_llama.cpp on the same models.

    cargo build --release -p engine-speed
    scripts/compare_engines.py MODEL.gguf... [--rounds 5] [--threads N] [--ik PYTHON] [--json FILE]

Every engine runs once in each round, in turn, so that a slow minute hits all of them; what is
printed are medians over the rounds, and the ratio of ours to the better of the others. llama.cpp is
the `llama-bench` on the PATH. ik_llama.cpp is the wheel `ik-llama-cpp-python` in the environment
whose Python --ik names:

    python3 -m venv ik && ik/bin/pip install ik-llama-cpp-python==0.1.5

An engine that isn't there is left out, and that is said. --busy keeps core 0 busy meanwhile and
measures ours alone, with and without; --kernels NAME measures ours with one instruction set.
"""

import argparse
import contextlib
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
FIGURES = ["prefill_128", "prefill_512", "decode", "decode_1024"]
# Run by the Python that has the wheel: MODEL THREADS.
IK_DRIVER = """
import json, sys, time
from ik_llama_cpp import _ctypes_api as api

model_path, threads = sys.argv[1], int(sys.argv[2])
api.llama_backend_init()
options = api.llama_model_default_params()
options.repack_tensors = True
model = api.llama_model_load_from_file(model_path.encode(), options)
options = api.llama_context_default_params()
options.n_ctx, options.n_batch, options.n_ubatch = 2048, 2048, 512
options.n_threads = options.n_threads_batch = threads
options.flash_attn = True
context = api.llama_init_from_model(model, options)

def read(tokens, start):
    batch = api.llama_batch_init(len(tokens), 0, 1)
    batch.n_tokens = len(tokens)
    for at, token in enumerate(tokens):
        batch.token[at], batch.pos[at], batch.n_seq_id[at] = token, start + at, 1
        batch.seq_id[at][0], batch.logits[at] = 0, at == len(tokens) - 1
    assert api.llama_decode(context, batch) == 0
    api.llama_batch_free(batch)

def prefill(count):
    api.llama_kv_cache_clear(context)
    started = time.perf_counter()
    read([at * 37 % 800 + 100 for at in range(count)], 0)
    return count / (time.perf_counter() - started)

def decode(depth, count=128):
    prefill(depth)
    started = time.perf_counter()
    for at in range(count):
        read([100 + at], depth + at)
    return count / (time.perf_counter() - started)

prefill(16)
print(json.dumps({
    "prefill_128": prefill(128), "prefill_512": prefill(512),
    "decode": decode(1), "decode_1024": decode(1024)}))
"""


def last_line(command):
    """The last line that a command prints, or the script's end with what it complained of."""
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"error: {command[0]} ended with {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout.strip().splitlines()[-1]


def ours(options, model, only=None):
    command = [options.ours, model, "--json", "--repeat", 1, "--threads", options.threads]
    if only:
        command += ["--only", only]
    if options.kernels:
        command += ["--kernels", options.kernels]
    figures = json.loads(last_line(command))
    return {name.removesuffix("_tokens_per_s"): value for name, value in figures.items()}


def llama_cpp(options, model):
    figures = {}
    for arguments in (["-p", "128,512", "-n", "128"], ["-p", "0", "-n", "128", "-d", "1024"]):
        command = [
            options.llama_bench, "-m", model, "-t", options.threads, "-r", 1, "-fa", 1, "-o", "jsonl",
            *arguments]
        done = subprocess.run(
            [str(word) for word in command], capture_output=True, text=True, check=True)
        for line in done.stdout.splitlines():
            row = json.loads(line)
            name = f"prefill_{row['n_prompt']}" if row["n_prompt"] else "decode"
            depth = f"_{row['n_depth']}" if row.get("n_depth") else ""
            figures[name + depth] = row["avg_ts"]
    return figures


def ik_llama_cpp(options, model):
    return json.loads(last_line([options.ik, "-c", IK_DRIVER, model, options.threads]))


def engines_of(options):
    engines = {"ours": ours}
    if options.llama_bench:
        engines["llama.cpp"] = llama_cpp
    else:
        print("llama.cpp is left out: no llama-bench on the PATH")
    if options.ik:
        engines["ik_llama.cpp"] = ik_llama_cpp
    else:
        print("ik_llama.cpp is left out: --ik names no Python that has it")
    return engines


def measure(options, engines, model):
    """Medians of every figure by engine, with all rounds kept under `rounds`."""
    rounds = {name: [] for name in engines}
    for number in range(options.rounds):
        for name, engine in engines.items():
            rounds[name].append(engine(options, model))
            print(f"  round {number + 1}: {name}", file=sys.stderr)
    return rounds


def medians(rounds):
    numbers = [name for name, value in rounds[0].items() if isinstance(value, (int, float))]
    return {name: statistics.median(row[name] for row in rounds) for name in numbers}


def show(model, by_engine):
    mine = by_engine["ours"]
    others = [name for name in by_engine if name != "ours"]
    print(f"\n{model.name}\n{'tokens/s':<14}" + "".join(f"{name:>14}" for name in by_engine)
          + f"{'ratio':>8}")
    for figure in FIGURES:
        row = [by_engine[name][figure] for name in by_engine]
        best = max((by_engine[name][figure] for name in others), default=None)
        ratio = f"{mine[figure] / best:8.2f}" if best else ""
        print(f"{figure:<14}" + "".join(f"{value:14.1f}" for value in row) + ratio)
    for batch in ("batch_8", "batch_32"):
        print(f"{batch:<14}{mine[batch]:14.1f}   {mine[batch] / mine['decode']:.2f} x decode")
    print(f"load {mine['load_ms']:.0f} ms, peak RSS {mine['peak_rss_bytes'] / 1e6:.0f} MB ="
          f" {mine['load_peak_rss_bytes'] / mine['file_bytes']:.2f} x the file after the load,"
          f" {mine['peak_rss_bytes'] / mine['file_bytes']:.2f} x in all")
    share = mine["decode"] * mine["file_bytes"] / mine["bandwidth_bytes_per_s"]
    print(f"memory {mine['bandwidth_bytes_per_s'] / 1e9:.1f} GB/s: decode reads the file at"
          f" {100 * share:.0f} % of it")


@contextlib.contextmanager
def busy_core():
    """A process that keeps core 0 busy."""
    program = "import os\nos.sched_setaffinity(0, {0})\nwhile True: pass"
    process = subprocess.Popen([sys.executable, "-c", program])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def compare_busy(options, model):
    quiet, busy = [], []
    for _ in range(options.rounds):
        quiet.append(ours(options, model, "decode")["decode"])
        with busy_core():
            busy.append(ours(options, model, "decode")["decode"])
    quiet, busy = statistics.median(quiet), statistics.median(busy)
    print(f"{model.name}: decode {quiet:.1f} tokens/s, with core 0 busy {busy:.1f}:"
          f" {100 * busy / quiet:.0f} %")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("models", nargs="+", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--ours", default=ROOT / "target/release/engine-speed")
    parser.add_argument("--llama-bench", default=shutil.which("llama-bench"))
    parser.add_argument("--ik", help="the Python that has ik-llama-cpp-python")
    parser.add_argument("--kernels", help="one instruction set for ours, as engine-speed names it")
    parser.add_argument("--busy", action="store_true")
    parser.add_argument("--json", type=pathlib.Path, help="write all rounds here")
    options = parser.parse_args()
    if options.busy:
        for model in options.models:
            compare_busy(options, model)
        return
    engines = engines_of(options)
    everything = {}
    for model in options.models:
        rounds = measure(options, engines, model)
        everything[model.name] = rounds
        show(model, {name: medians(rows) for name, rows in rounds.items()})
    if options.json:
        options.json.write_text(json.dumps(everything, indent=1))


if __name__ == "__main__":
    main()
