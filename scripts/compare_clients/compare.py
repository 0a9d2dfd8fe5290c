#!/usr/bin/env python3
"""Puts this benchmark and others under the same server of known timing, and shows by how much each is off.

    cargo build --release -p xtask
    for name in guidellm==0.8.1 aiperf==0.13.0 llama-benchy==0.4.0; do
        python3 -m venv clients/${name%%=*} && clients/${name%%=*}/bin/pip install $name
    done
    scripts/compare_clients/compare.py --xtask target/release/xtask --venvs clients [--streams 1,32] [--rounds 3]

One client after the other in each round, so that a slow minute hits all of them; medians over the rounds.
TTFT and ITL (the mean of each request) are those that the client has of each request; beside them are
the server's own, from reading the request until its first token was sent, and between its tokens. What
is shown is the difference of the medians and of the p99. CPU is that of the whole command. In a last
round every fourth stream is cut in its middle: shown is how many of those each client calls a success.
A client that isn't there is left out.
"""

import argparse
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
TOKENS = 100
REQUESTS_PER_STREAM = 10
CUT_EVERY = 4


def percentile(values, p):
    values = sorted(values)
    return values[max(0, math.ceil(p * len(values) / 100) - 1)]


class Server:
    """The server of known timing, for one client."""

    def __init__(self, folder, *cut):
        self.log = folder / "server.jsonl"
        command = [sys.executable, HERE / "known_pace.py", self.log, *cut]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def answers(self):
        """Each answer in the order of its request: its TTFT and mean ITL in ms, and whether it was cut."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        lines.sort(key=lambda line: line["received"])
        for line in lines:
            sent = line["sent"]
            itl = (sent[-1] - sent[0]) / max(1, len(sent) - 1)
            yield (sent[0] - line["received"]) / 1e6, itl / 1e6, line["is_cut"]


def make_tokenizer(folder):
    """Each byte is a token: enough for clients that insist on a tokenizer to make prompts."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {byte: chr(byte) for byte in printable}
    letters.update({byte: chr(256 + at) for at, byte in enumerate(others)})
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    end = {"id": 256, "content": "<|end|>", "special": True}
    end.update(single_word=False, lstrip=False, rstrip=False, normalized=False)
    model = {"type": "BPE", "vocab": {letters[byte]: byte for byte in range(256)}, "merges": []}
    tokenizer = {"version": "1.0", "added_tokens": [end], "model": model}
    tokenizer.update(pre_tokenizer=level, decoder=level, normalizer=None, post_processor=None)
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>"}
    folder.mkdir()
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2", "vocab_size": 257}))
    return folder


# Each client: its command, and what it says of its requests: TTFT and mean ITL of each in ms, and how
# many it calls a success.


def xtask(options, url, folder, streams):
    prompts = folder / "prompts.jsonl"
    prompts.write_text("".join(f'"Say {number} words"\n' for number in range(64)))
    requests = streams * REQUESTS_PER_STREAM
    command = [options.xtask, "worker:test", "--benchmark", "--attach", url, "--dialect", "openai"]
    command += ["--model-name", "known-pace", "--no-heartbeat", "--prompts", prompts, "--warmup", "1ms"]
    command += ["--max-tokens", TOKENS, "--requests", requests, "--concurrency", streams]
    return command + ["--artifacts", folder / "runs"]


def read_xtask(folder, streams):
    ttft, itl, good = [], [], 0
    for line in (folder / "runs/latest/events.jsonl").read_text().splitlines():
        event = json.loads(line)
        is_of_load = event.get("scenario") == f"sweep_{streams}"
        if event.get("event") != "request_measured" or not is_of_load:
            continue
        if event["outcome"] == "valid":
            good += 1
        first, last = event["chunks"][0], event["chunks"][-1]
        ttft.append(first[0])
        tokens = sum(count for _, count in event["chunks"])
        itl.append((last[0] - first[0]) / max(1, tokens - first[1]))
    return ttft, itl, good


def guidellm(options, url, folder, streams):
    backend = f"kind=openai_http,target={url},model=known-pace,request_format=/v1/completions"
    command = [options.venvs / "guidellm/bin/guidellm", "run", "--backend", backend]
    command += ["--profile", f"kind=concurrent,streams={streams}"]
    command += ["--constraint", f"kind=max_requests,count={streams * REQUESTS_PER_STREAM}"]
    command += ["--tokenizer", f"kind=hf_auto,model={options.tokenizer}"]
    command += ["--data", f"kind=synthetic_text,prompt_tokens=32,output_tokens={TOKENS}"]
    command += ["--output", f"kind=json,path={folder / 'guidellm.json'}"]
    return command + ["--disable-console-interactive"]


def read_guidellm(folder, _):
    requests = json.loads((folder / "guidellm.json").read_text())["benchmarks"][0]["requests"]
    good = requests["successful"]
    ttft = [one["time_to_first_token_ms"] for one in good]
    return ttft, [one["inter_token_latency_ms"] for one in good], len(good)


def aiperf(options, url, folder, streams):
    command = [options.venvs / "aiperf/bin/aiperf", "profile", "-m", "known-pace", "--url", url]
    command += ["--endpoint-type", "completions", "--streaming", "--concurrency", streams]
    command += ["--request-count", streams * REQUESTS_PER_STREAM, "--isl", 32, "--osl", TOKENS]
    command += ["--tokenizer", options.tokenizer, "--use-server-token-count", "--ui", "none"]
    command += ["--extra-inputs", '{"stream_options":{"include_usage":true}}']
    return command + ["--artifact-dir", folder / "aiperf"]


def read_aiperf(folder, _):
    lines = (folder / "aiperf/profile_export.jsonl").read_text().splitlines()
    good = [one for one in map(json.loads, lines) if not one.get("error")]

    def values(name):
        return [one["metrics"][name]["value"] for one in good if name in one["metrics"]]

    return values("time_to_first_token"), values("inter_token_latency"), len(good)


def llama_benchy(options, url, folder, streams):
    command = [options.venvs / "llama-benchy/bin/llama-benchy", "--base-url", url + "/v1"]
    command += ["--model", "known-pace", "--tokenizer", options.tokenizer, "--pp", 32, "--tg", TOKENS]
    command += ["--runs", REQUESTS_PER_STREAM, "--concurrency", streams, "--latency-mode", "none"]
    command += ["--no-warmup", "--skip-coherence", "--book-url", url + "/book.txt"]
    return command + ["--save-result", folder / "benchy.json", "--format", "json"]


def read_llama_benchy(folder, _):
    one = json.loads((folder / "benchy.json").read_text())["benchmarks"][0]
    ttft = one["e2e_ttft"]["values"]
    rates = one["tg_req_throughput"]["values"]
    return ttft, [1e3 / rate for rate in rates if rate], len(ttft)


CLIENTS = {
    "worker:test": (xtask, read_xtask),
    "guidellm": (guidellm, read_guidellm),
    "aiperf": (aiperf, read_aiperf),
    "llama-benchy": (llama_benchy, read_llama_benchy),
}


def run(name, options, streams, *cut):
    """What one client makes of the server; `None` where it isn't there."""
    command_of, read = CLIENTS[name]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        with Server(folder, *cut) as server:
            command = [str(part) for part in command_of(options, server.url, folder, streams)]
            if not pathlib.Path(command[0]).exists():
                return None
            with open(folder / "output", "wb") as output:
                client = subprocess.Popen(command, stdout=output, stderr=output)
                _, status, usage = os.wait4(client.pid, 0)
                client.returncode = os.waitstatus_to_exitcode(status)
            try:
                ttft, itl, good = read(folder, streams)
            except (OSError, ValueError, KeyError, IndexError) as error:
                tail = (folder / "output").read_text(errors="replace")[-2000:]
                print(f"{name}: {error!r}\n{tail}", file=sys.stderr)
                return None
            # Whatever a client asks to warm up comes first.
            known = list(server.answers())[-streams * REQUESTS_PER_STREAM :]
        result = {"cpu": usage.ru_utime + usage.ru_stime, "exit": client.returncode}
        result.update(good=good, sent=len(known), cut=sum(is_cut for *_, is_cut in known))
        if ttft and itl:
            for p in (50, 99):
                result[f"ttft{p}"] = percentile(ttft, p) - percentile([one[0] for one in known], p)
                result[f"itl{p}"] = percentile(itl, p) - percentile([one[1] for one in known], p)
        return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--xtask", type=pathlib.Path, required=True)
    parser.add_argument("--venvs", type=pathlib.Path, required=True)
    parser.add_argument("--streams", default="1,32")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        options.tokenizer = make_tokenizer(pathlib.Path(folder) / "tokenizer")
        show(options)


def show(options):
    print("| streams | client | TTFT p50 | p99 | ITL p50 | p99 | CPU s |\n|---|---|---|---|---|---|---|")
    for streams in map(int, options.streams.split(",")):
        found = {name: [] for name in CLIENTS}
        for _ in range(options.rounds):
            for name in CLIENTS:
                result = run(name, options, streams)
                if result and "ttft50" in result:
                    found[name].append(result)
        for name, results in found.items():
            if not results:
                continue
            names = ["ttft50", "ttft99", "itl50", "itl99"]
            cells = [statistics.median(one[key] for one in results) for key in names]
            shown = " | ".join(f"{cell:+.2f}" for cell in cells)
            cpu = statistics.median(one["cpu"] for one in results)
            print(f"| {streams} | {name} | {shown} | {cpu:.1f} |", flush=True)
    print(f"\nEvery {CUT_EVERY}th stream cut in its middle:\n")
    print("| cut | client | streams | cut | called a success | exit code |\n|---|---|---|---|---|---|")
    for kind, more in {"connection closed": [], "answer ended": ["--quiet"]}.items():
        for name in CLIENTS:
            result = run(name, options, 4, "--cut-every", str(CUT_EVERY), *more)
            if result:
                cells = [result[key] for key in ("sent", "cut", "good", "exit")]
                print(f"| {kind} | {name} | " + " | ".join(map(str, cells)) + " |", flush=True)


if __name__ == "__main__":
    main()
