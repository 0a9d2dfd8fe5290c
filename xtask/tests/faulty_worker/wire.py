"""HTTP/1.1 over one connection: heads, bodies, answers, streams, and whether the client is still there.

Knows no path and no field. Deadlines: a request that has begun must go on within `IDLE_S` and be whole
within `WHOLE_S`; a client that reads nothing for `STALL_S` is given up.
"""

import json
import select
import socket
import time

from . import variants
from .faults import active
from .options import ApiError

IDLE_S = 10
WHOLE_S = 60
STALL_S = 30
HEAD_LIMIT = 64 * 1024
BODY_LIMIT = 1024 * 1024

REASONS = {
    200: "OK", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found",
    405: "Method Not Allowed", 408: "Request Timeout", 413: "Content Too Large", 415: "Unsupported Media Type",
    422: "Unprocessable Content", 429: "Too Many Requests", 431: "Request Header Fields Too Large",
    500: "Internal Server Error", 503: "Service Unavailable",
}


class ClientGone(Exception):
    """The client hung up, or is done with. `how` is fin, rst, stalled or idle."""

    def __init__(self, how):
        super().__init__(how)
        self.how = how


class Head:
    """A request line and its headers."""

    def __init__(self, text):
        lines = text.split("\r\n")
        parts = lines[0].split(" ")
        if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
            raise bad_request("the request line is not METHOD PATH HTTP/1.1")
        self.method, target, self.version = parts
        self.path = target.partition("?")[0]
        self.headers = {}
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            name = name.lower()
            if not colon or not name or name != name.strip():
                raise bad_request("a header line is not NAME: VALUE")
            if name == "host" and name in self.headers and not active("error.host_ignored"):
                raise bad_request("two hosts")
            if name == "content-length" and self.headers.get(name, value.strip()) != value.strip():
                raise bad_request("two values of Content-Length")
            self.headers[name] = value.strip()
        if self.version == "HTTP/1.1" and "host" not in self.headers and not active("error.host_ignored"):
            raise bad_request("no host")

    def is_chunked(self):
        """Whether the body comes in chunks."""
        return self.headers.get("transfer-encoding", "").lower() == "chunked"

    def content_length(self):
        """The length that the client says the body has."""
        text = self.headers.get("content-length", "0")
        if not (text.isascii() and text.isdigit()) or len(text) > 18:
            raise bad_request("Content-Length is %.40r, not a number" % text)
        return int(text)

    def keeps_alive(self):
        """Whether another request may follow on the connection."""
        wish = self.headers.get("connection", "").lower()
        return wish != "close" if self.version == "HTTP/1.1" else wish == "keep-alive"


def bad_request(message):
    """What arrived is not HTTP."""
    return ApiError(400, "bad_request", message)


class Connection:
    """A client's socket."""

    def __init__(self, sock):
        self.sock = sock
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = bytearray()
        self.unsent = bytearray()
        self.stream_is_chunked = False
        # idle between requests, head or body while one arrives, served once it is whole.
        self.stage = "idle"
        self.at_end = False
        self.body_read = True
        self.deaf = False
        self.poller = select.poll() if hasattr(select, "POLLRDHUP") else None
        if self.poller:
            self.poller.register(sock, select.POLLRDHUP)

    # Reading

    def read_head(self):
        """The next request's head, or `None` when the client has no more requests."""
        self.stage = "head" if self.received else "idle"
        self.body_read = True
        self.deadline = time.monotonic() + WHOLE_S
        while b"\r\n\r\n" not in self.received:
            if len(self.received) > HEAD_LIMIT:
                raise ApiError(431, "bad_request", "the headers are larger than 64 KiB")
            if not self._receive():
                if self.received:
                    raise bad_request("the request ends within its headers")
                return None
        head, _, rest = bytes(self.received).partition(b"\r\n\r\n")
        self.received = bytearray(rest)
        self.stage = "served"
        request = Head(head.decode("latin-1").lstrip("\r\n"))
        self.body_read = not request.is_chunked() and request.content_length() == 0
        return request

    def read_body(self, head, limit=BODY_LIMIT):
        """The whole body; raises the contract's 413 above `limit`."""
        if head.headers.get("expect", "").lower() == "100-continue":
            self._send_all(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.stage = "body"
        body = self._read_chunks(limit) if head.is_chunked() else self._read_length(head.content_length(), limit)
        self.body_read = True
        self.stage = "served"
        return body

    def _read_length(self, length, limit):
        if length > limit:
            raise too_large("%d bytes" % length, limit)
        return self._take(length)

    def _read_chunks(self, limit):
        body = bytearray()
        while True:
            line = self._take_line()
            digits = line.split(b";")[0].strip()
            try:
                size = int(digits, 16) if digits.isalnum() else -1
            except ValueError:
                size = -1
            if size < 0:
                raise bad_request("a chunk's size is not a hexadecimal number")
            if len(body) + size > limit:
                raise too_large("at least %d bytes" % (len(body) + size), limit)
            if size == 0:
                while self._take_line():
                    pass
                return bytes(body)
            body += self._take(size)
            if self._take(2) != b"\r\n":
                raise bad_request("a chunk is longer than its size")

    def _take(self, size):
        while len(self.received) < size:
            if not self._receive():
                raise bad_request("the body ends after %d of %d bytes" % (len(self.received), size))
        taken = bytes(self.received[:size])
        del self.received[:size]
        return taken

    def _take_line(self):
        while b"\r\n" not in self.received:
            if len(self.received) > HEAD_LIMIT or not self._receive():
                raise bad_request("the body ends within a chunk's size")
        line, _, rest = bytes(self.received).partition(b"\r\n")
        self.received = bytearray(rest)
        return line

    def _receive(self):
        """Reads what is there; waits for ever only before a request has begun."""
        begun = self.stage != "idle"
        if begun and time.monotonic() > self.deadline:
            raise ApiError(408, "bad_request", "the request was not whole after %d s" % WHOLE_S)
        self.sock.settimeout(IDLE_S if begun else idle_limit_s())
        try:
            data = self.sock.recv(65536)
        except socket.timeout:
            if not begun:
                raise ClientGone("idle") from None
            raise ApiError(408, "bad_request", "nothing came for %d s within a request" % IDLE_S) from None
        except OSError:
            raise ClientGone("rst") from None
        if data and not begun:
            self.stage = "head"
            self.deadline = time.monotonic() + WHOLE_S
        self.at_end = not data
        self.received += data
        return len(data)

    # Writing

    def answer(self, status, headers, content_type, body, keep_alive):
        """A whole answer."""
        framing, body = variants.body_framing(body)
        head = ["%s %d %s" % (variants.VERSION, status, REASONS.get(status, "Unknown"))]
        head += [variants.header("Content-Type") + ": " + variants.content_type(content_type)] + framing
        head += ["%s: %s" % (variants.header(name), value) for name, value in headers.items()]
        head.append(variants.header("Connection") + ": " + ("keep-alive" if keep_alive else "close"))
        if keep_alive and keep_alive_header():
            head.append("Keep-Alive: " + keep_alive_header())
        for part in variants.halves("\r\n".join(head).encode() + b"\r\n\r\n" + body):
            self._send_all(part)

    def start_stream(self, head, content_type):
        """The head of an answer whose body follows in pieces."""
        self.stream_is_chunked = head.version == variants.VERSION == "HTTP/1.1"
        how = "Transfer-Encoding: chunked" if self.stream_is_chunked else "Connection: close"
        kind = variants.header("Content-Type") + ": " + variants.content_type(content_type)
        lines = [variants.VERSION + " 200 OK", kind, "Cache-Control: no-cache", how]
        self.push("\r\n".join(lines).encode() + b"\r\n\r\n", raw=True)

    def push(self, data, raw=False):
        """Sends what the client takes now and keeps the rest: a slow reader holds nobody up."""
        for piece in variants.slices(data):
            if self.stream_is_chunked and not raw:
                piece = b"%x\r\n%s\r\n" % (len(piece), piece)
            self.unsent += piece
            self.flush(0)

    def end_stream(self):
        """The end of a streamed body."""
        if self.stream_is_chunked:
            self.push(b"0\r\n\r\n", raw=True)

    def flush(self, wait_s):
        """Sends what is unsent, waiting up to `wait_s` without progress; returns whether all is sent."""
        if self.deaf:
            self.unsent.clear()
        while self.unsent:
            self.sock.settimeout(wait_s)
            try:
                sent = self.sock.send(self.unsent)
            except (BlockingIOError, socket.timeout):
                return False
            except OSError:
                raise ClientGone("rst") from None
            del self.unsent[:sent]
        return True

    def _send_all(self, data):
        self.unsent += data
        if not self.flush(STALL_S):
            raise ClientGone("stalled")

    # Whether the client is there

    def check_client(self):
        """Raises `ClientGone` when the client has closed or reset the connection."""
        if self.deaf or (self.poller and not self.poller.poll(0)):
            return
        self.sock.settimeout(0)
        try:
            data = self.sock.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, socket.timeout):
            return
        except OSError:
            raise ClientGone("rst") from None
        if data and active("leave.extra_bytes_go_on"):
            return
        if not data or self.poller:
            raise ClientGone("fin")

    def close(self):
        """Closes so that the last answer arrives even when the client was still sending."""
        try:
            self.sock.shutdown(socket.SHUT_WR)
            if not self.body_read:
                self._swallow()
        except OSError:
            pass
        self.sock.close()

    def _swallow(self):
        give_up = time.monotonic() + 2
        self.sock.settimeout(0.5)
        while time.monotonic() < give_up and self.sock.recv(65536):
            pass


def idle_limit_s():
    """How long a connection may idle; for ever without a limit."""
    if active("robust.idle_cut_short") or active("robust.idle_time_lied"):
        return 0.5
    return variants.IDLE_LIMIT_S


def keep_alive_header():
    """What answers say of that."""
    return "timeout=90" if active("robust.idle_time_lied") else variants.KEEP_ALIVE


def too_large(got, limit):
    """The body is beyond the limit."""
    return ApiError(413, "body_too_large", "the body has %s; allowed: up to %d bytes" % (got, limit))


def to_json(value):
    """One line of JSON."""
    return json.dumps(variants.payload(value), **variants.json_style()).encode("utf-8", "replace")
