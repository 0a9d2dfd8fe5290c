"""Answers one GET for the xtask: it brings TLS, the system's certificates and its proxies.

Reads one line of JSON, {"url": ..., "headers": {...}, "timeout_s": ...}, from standard input.
Writes one line of JSON, {"status": ..., "headers": [[name, value], ...]} or
{"error": ..., "lasting": ...}, then the body's bytes as they come, to standard output.
Redirects are not followed, and nothing is judged here: that is the caller's part.
"""

import http.client
import json
import os
import socket
import ssl
import sys
import threading
import urllib.error
import urllib.request


class KeepRedirects(urllib.request.HTTPRedirectHandler):
    """Hands redirects to the caller, who decides which headers may follow."""

    def redirect_request(self, *_):
        return None


def main():
    asked = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=end_with_the_caller, daemon=True).start()
    request = urllib.request.Request(asked["url"], headers=asked["headers"])
    handlers = [KeepRedirects]
    if request.host.split(":")[0] in ("127.0.0.1", "localhost"):
        # No proxy leads to this very machine.
        handlers.append(urllib.request.ProxyHandler({}))
    opener = urllib.request.build_opener(*handlers)
    try:
        answer = opener.open(request, timeout=asked["timeout_s"])
    except urllib.error.HTTPError as error:
        answer = error
    except (OSError, http.client.HTTPException, ValueError) as error:
        say(error=describe(error), lasting=is_lasting(error))
        return
    say(status=answer.code, headers=answer.headers.items())
    if answer.code in (200, 206):
        # Bytes are handed on as they come, so that a slow answer shows its progress.
        while chunk := answer.read1(1 << 16):
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()


def end_with_the_caller():
    """The caller holds our standard input open for as long as it lives."""
    sys.stdin.buffer.read()
    os._exit(1)


def is_lasting(error):
    """Whether the same request would fail again."""
    cause = getattr(error, "reason", error)
    if isinstance(cause, socket.gaierror):
        return cause.errno != socket.EAI_AGAIN
    return isinstance(error, ValueError) or isinstance(cause, ssl.SSLCertVerificationError)


def describe(error):
    return str(getattr(error, "reason", error)) or type(error).__name__


def say(**head):
    head["headers"] = list(head.get("headers", []))
    sys.stdout.buffer.write(json.dumps(head).encode() + b"\n")
    sys.stdout.buffer.flush()


status = 0
try:
    main()
except (OSError, http.client.HTTPException) as error:
    print(describe(error), file=sys.stderr, flush=True)
    status = 1
# Not sys.exit: the thread that reads standard input would hold up, or abort, an orderly end.
os._exit(status)
