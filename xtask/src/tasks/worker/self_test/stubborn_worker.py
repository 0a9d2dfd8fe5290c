#!/usr/bin/env python3
"""A worker that does not want to go: it ignores every signal that can be ignored, has a child in its own
process group that does the same, floods its log, and never answers an inference.

It takes the contract's command line and says that it is ready, no more. `worker:test --self-test` and
the tests of the guards run it. Standard library only, Python 3.8 or newer. Knobs of the environment:

    STUBBORN_FLOOD_MB   how much it writes to its log, as fast as it can (100)
    STUBBORN_STRAY      1: another child, in a session of its own
    STUBBORN_ORPHAN     so many seconds lives a child that has a session of its own, no parent and no environment
    STUBBORN_UNMARKED   1: its children don't inherit WORKER_TEST_RUN, so that only their group tells of them
    STUBBORN_INFERENCE  what an inference does: hang, or die by a segmentation fault (hang)
    STUBBORN_NOTE       a file that it writes when the first inference has come
    STUBBORN_POLITE     1: it stops when it is asked to, and so does its child
"""

import argparse
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time

IGNORED = ["SIGTERM", "SIGINT", "SIGHUP", "SIGBREAK"]
LINE = b"[INFO] I am writing to my log and nobody can stop me, whatever they say and whoever they are\n"

CHILD = """
import signal, sys, time
for name in %r:
    if hasattr(signal, name):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
print("up", flush=True)
time.sleep(600)
"""


def ignore_signals():
    for name in IGNORED:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def start_child(own_session=False):
    """Comes back when the child ignores signals. It inherits the log, as children do."""
    names = [] if os.environ.get("STUBBORN_POLITE") == "1" else IGNORED
    environment = dict(os.environ)
    if environment.get("STUBBORN_UNMARKED") == "1":
        environment.pop("WORKER_TEST_RUN", None)
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD % names],
        stdout=subprocess.PIPE,
        env=environment,
        start_new_session=own_session,
    )
    child.stdout.readline()
    return child


def start_orphan(seconds):
    """Comes back when its parent is gone."""
    naked = "env -i setsid sleep '%s' < /dev/null > /dev/null 2>&1 &" % seconds
    subprocess.run(["sh", "-c", naked], check=True)


def flood():
    left = int(os.environ.get("STUBBORN_FLOOD_MB", "100")) << 20
    chunk = LINE * 500
    while left > 0:
        left -= os.write(2, chunk)
    os.write(2, b"[INFO] That was all\n")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/v1/health":
            self.answer({"status": "healthy", "model_loaded": True, "worker_id": self.server.worker_id})
        else:
            self.answer({"ready": True})

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        note = os.environ.get("STUBBORN_NOTE")
        if note:
            with open(note, "w") as file:
                file.write(self.path)
        if os.environ.get("STUBBORN_INFERENCE") == "die":
            os.write(2, b"[ERROR] These are my last words\n")
            os.kill(os.getpid(), signal.SIGSEGV)
        time.sleep(600)

    def answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def main():
    options = argparse.ArgumentParser(allow_abbrev=False)
    options.add_argument("--port", type=int, required=True)
    options.add_argument("--worker-id", required=True)
    options, _ = options.parse_known_args()
    if os.environ.get("STUBBORN_POLITE") != "1":
        ignore_signals()
    start_child()
    if os.environ.get("STUBBORN_STRAY") == "1":
        start_child(own_session=True)
    if os.environ.get("STUBBORN_ORPHAN"):
        start_orphan(os.environ["STUBBORN_ORPHAN"])
    threading.Thread(target=flood, daemon=True).start()
    http.server.ThreadingHTTPServer.daemon_threads = True
    server = http.server.ThreadingHTTPServer(("127.0.0.1", options.port), Handler)
    server.worker_id = options.worker_id
    server.serve_forever()


if __name__ == "__main__":
    main()
