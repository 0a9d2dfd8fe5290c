"""The mock hive: a heartbeat sink that writes down what reaches it and judges nothing.

Speaks JSON, one object a line. Commands come on standard input, events leave on standard output;
the end of standard input ends the process, so that it can't outlive whoever started it.

Commands:
  {"do": "answer", "status": 500, "headers": {"Location": "..."}}   answer like this from now on
  {"do": "delay", "seconds": 3}   answer this late
  {"do": "hang"}                  read requests and never answer them
  {"do": "close"}                 read requests and hang up without an answer
  {"do": "deaf"}                  stop listening: connections are refused
  {"do": "normal"}                listen again and answer 200 at once

Events:
  {"event": "listening", "port": 19200, "at": 12.5}
  {"event": "deaf", "at": 13.5}
  {"event": "request", "at": 14.5, "clock": "10:54:23", "method": "POST", "path": "...",
   "content_type": "...", "body": "...", "cut_bytes": 0, "answered": 200}
  {"event": "done", "do": "hang", "at": 15.0}     a command took effect
  {"event": "error", "message": "..."}

`at` is in seconds on this process's monotonic clock, taken when the request's body was complete.
"""

import http.server
import json
import os
import socket
import socketserver
import sys
import threading
import time

# What is kept of a body: a heartbeat has some hundred bytes. The rest is counted.
KEPT_BYTES = 16 << 10
# Whoever sends more than this is hung up on.
BODY_LIMIT_BYTES = 64 << 20
PIECE_BYTES = 64 << 10
# What is kept of a path and of a header.
FIELD_CHARS = 1000
# Longer than any heartbeat interval: a worker may keep its connection from one beat to the next.
IDLE_LIMIT_S = 2 * 24 * 60 * 60

output_lock = threading.Lock()


def tell(**event):
    line = json.dumps(event)
    with output_lock:
        try:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
        except (OSError, ValueError):
            os._exit(0)  # Nobody listens any more.


class Behaviour:
    """How requests are answered; replaced as a whole by each command."""

    def __init__(self, mode="answer", status=200, headers=None, delay_s=0.0):
        self.mode = mode
        self.status = status
        self.headers = headers or {}
        self.delay_s = delay_s


class Body:
    """The begin of a body, and how long it was."""

    def __init__(self):
        self.kept = b""
        self.length = 0

    def take(self, source, length):
        """Reads so many bytes. Returns whether they came, and were not too many."""
        while length > 0 and self.length < BODY_LIMIT_BYTES:
            piece = source.read(min(length, PIECE_BYTES))
            if not piece:
                return False
            self.kept += piece[: KEPT_BYTES - len(self.kept)]
            self.length += len(piece)
            length -= len(piece)
        return length <= 0


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = IDLE_LIMIT_S

    def handle_any(self):
        body = Body()
        if "chunked" in (self.headers.get("Transfer-Encoding") or "").lower():
            is_whole = self.read_chunks(body)
        else:
            is_whole = body.take(self.rfile, self.content_length())
        arrived = time.monotonic()
        clock = time.strftime("%H:%M:%S")
        behaviour = self.server.behaviour
        answers = behaviour.mode == "answer"
        tell(
            event="request",
            at=arrived,
            clock=clock,
            method=self.command,
            path=self.path[:FIELD_CHARS],
            content_type=(self.headers.get("Content-Type") or "")[:FIELD_CHARS] or None,
            body=body.kept.decode("utf-8", "replace"),
            cut_bytes=body.length - len(body.kept),
            answered=behaviour.status if answers else None,
        )
        if not is_whole:
            # What follows is no request.
            self.close_connection = True
            return
        if behaviour.delay_s:
            time.sleep(behaviour.delay_s)
        if behaviour.mode == "hang":
            # Until the client gives up or the behaviour changes.
            while self.server.behaviour is behaviour and self.client_is_there():
                time.sleep(0.02)
            self.close_connection = True
        elif behaviour.mode == "close":
            self.close_connection = True
        else:
            reply = b'{"status":"ok"}' if behaviour.status < 300 else b'{"error":"on command"}'
            self.send_response(behaviour.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(reply)))
            for name, value in behaviour.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = handle_any

    def content_length(self):
        try:
            return int(self.headers.get("Content-Length") or 0)
        except ValueError:
            return 0

    def read_chunks(self, body):
        while True:
            line = self.rfile.readline(FIELD_CHARS)
            try:
                size = int(line.split(b";")[0].strip() or b"0", 16)
            except ValueError:
                return False
            if not body.take(self.rfile, size):
                return False
            self.rfile.readline(FIELD_CHARS)
            if size == 0:
                return True

    def client_is_there(self):
        self.connection.settimeout(0.001)
        try:
            return self.connection.recv(1, socket.MSG_PEEK) != b""
        except (TimeoutError, socket.timeout):
            return True
        except OSError:
            return False
        finally:
            self.connection.settimeout(self.timeout)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    # A port that another process listens on must not be shared, which is what this option means on Windows.
    allow_reuse_address = os.name == "posix"
    request_queue_size = 128

    def server_bind(self):
        """Binds without asking name servers what this machine is called, which may take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]

    behaviour = Behaviour()

    def handle_error(self, _request, _address):
        pass  # A client that hung up is not news: the harness sees what arrived.


class Hive:
    def __init__(self, port):
        self.port = port
        self.server = None

    def listen(self):
        if self.server is None:
            self.server = Server(("127.0.0.1", self.port), Handler)
            self.port = self.server.server_address[1]
            threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
            tell(event="listening", port=self.port, at=time.monotonic())

    def go_deaf(self):
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()
            self.server = None
            tell(event="deaf", at=time.monotonic())

    def obey(self, command):
        what = command["do"]
        if what == "deaf":
            self.go_deaf()
        else:
            behaviour = {
                "answer": lambda: Behaviour(status=command["status"], headers=command.get("headers")),
                "delay": lambda: Behaviour(delay_s=command["seconds"]),
                "hang": lambda: Behaviour(mode="hang"),
                "close": lambda: Behaviour(mode="close"),
                "normal": Behaviour,
            }[what]()
            Server.behaviour = behaviour
            self.listen()
        tell(event="done", do=what, at=time.monotonic())


def main():
    hive = Hive(int(sys.argv[1]))
    try:
        hive.listen()
    except OSError as error:
        tell(event="error", message=f"cannot listen on port {hive.port}: {error.strerror}")
        return 1
    for line in sys.stdin:
        try:
            hive.obey(json.loads(line))
        except (ValueError, KeyError, TypeError, OSError) as error:
            tell(event="error", message=f"cannot obey {line.strip()}: {error!r}")
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)
