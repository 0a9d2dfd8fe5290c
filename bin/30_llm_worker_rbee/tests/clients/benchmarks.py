#!/usr/bin/env python3
"""The worker under other people's benchmarks: whether each ends well, and calls every request a success.

    for name in guidellm==0.8.1 aiperf==0.13.0 llama-benchy==0.4.0; do
        python3 -m venv clients/${name%%=*} && clients/${name%%=*}/bin/pip install $name
    done
    llm-worker-rbee --port 18081 --model-ref known-pace ...
    python3 benchmarks.py http://127.0.0.1:18081 clients

The commands are those of scripts/compare_clients, which know the model by that name. Ends with "all well",
or with what a client said.

Seen on 2026-12-01 with these versions: each has 40 of 40 requests answered.
"""

import argparse
import http.server
import pathlib
import subprocess
import sys
import tempfile
import threading

ROOT = pathlib.Path(__file__).resolve().parents[4]
sys.path.insert(0, str(ROOT / "scripts/compare_clients"))

import compare  # noqa: E402

STREAMS = 4
NAMES = ("guidellm", "aiperf", "llama-benchy")


class Book(http.server.BaseHTTPRequestHandler):
    """The text that llama-benchy cuts its prompts from."""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"Once upon a time there was a worker. " * 4000)

    def log_message(self, *_):
        pass


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("venvs", type=pathlib.Path)
    options = parser.parse_args()
    book = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Book)
    threading.Thread(target=book.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        options.tokenizer = compare.make_tokenizer(folder / "tokenizer")
        for name in NAMES:
            command_of, read = compare.CLIENTS[name]
            command = [str(part) for part in command_of(options, options.url, folder, STREAMS)]
            if "--book-url" in command:
                at = command.index("--book-url") + 1
                command[at] = f"http://127.0.0.1:{book.server_port}/book.txt"
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            assert done.returncode == 0, f"{name}: {done.stdout[-2000:]}"
            _, _, good = read(folder, STREAMS)
            sent = STREAMS * compare.REQUESTS_PER_STREAM
            print(f"{name}: {good} of {sent} requests succeeded")
            assert good == sent, done.stdout[-2000:]
    print("all well")


if __name__ == "__main__":
    main()
