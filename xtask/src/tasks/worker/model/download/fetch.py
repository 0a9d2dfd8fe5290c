"""Fetches one file for the xtask: it brings HTTP and TLS, the system's certificates and its proxies.

Reads one line of JSON from standard input: url, token, part (the growing file), note (what it is a
part of), bytes and sha256 (what the catalog names), tries, first_pause_s, longest_pause_s, timeout_s.
Writes lines of JSON to standard output: {"at": bytes}, {"retry": {"cause", "in_s"}}, and at the end
"done" or {"failed": message}. Whether the bytes are right is not decided here: the caller hashes them.
"""

import http.client
import json
import os
import socket
import ssl
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

# More hops than any hub has.
REDIRECT_LIMIT = 10

# Headers that are for the server they were meant for, and for no other.
FOR_ONE_HOST = ("authorization", "cookie")

# A try that brought at least this much doesn't count against the limit.
WORTHWHILE_BYTES = 1 << 20

# How often progress is reported.
REPORT_INTERVAL_S = 0.1

CHECK_NETWORK = "\n  try: check the network, the proxy, the certificates and HF_ENDPOINT"


class Passing(Exception):
    """A failure that the next try may not see: a reset, a silence, a server in trouble."""

    def __init__(self, cause, retry_after_s=None):
        super().__init__(cause)
        self.retry_after_s = retry_after_s


class Lasting(Exception):
    """A failure that every try would see."""


class KeepRedirects(urllib.request.HTTPRedirectHandler):
    """Leaves redirects to `ask`, which decides what headers may follow."""

    def redirect_request(self, *_):
        return None


class Part:
    """The growing file, and the note that says what it is the beginning of."""

    def __init__(self, asked):
        self.path, self.note = asked["part"], asked["note"]
        self.url, self.sha256, self.expected = asked["url"], asked["sha256"], asked["bytes"]
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self.file = os.open(self.path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0))
        self.size = os.fstat(self.file).st_size

    def etag(self):
        """The ETag under which the rest may be asked for; None if the file has to begin anew."""
        try:
            with open(self.note, "rb") as file:
                note = json.load(file)
            same = (note["url"], note["sha256"]) == (self.url, self.sha256)
            return note["etag"] if same and 0 < self.size <= self.expected else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def restart(self, etag=None):
        """Throws away what is there. Without a strong ETag what follows can't be resumed."""
        self.forget(self.note)
        os.ftruncate(self.file, 0)
        self.size = 0
        if etag is not None:
            # New, so that no link in its place is followed.
            with open(self.note, "x") as file:
                json.dump({"url": self.url, "etag": etag, "sha256": self.sha256}, file)

    def append(self, chunk):
        if self.size + len(chunk) > self.expected:
            self.forget(self.path)
            self.forget(self.note)
            raise Lasting(
                f"received more than the {self.expected} bytes that the catalog names; nothing was kept"
            )
        while chunk:
            written = os.write(self.file, chunk)
            self.size += written
            chunk = chunk[written:]

    @staticmethod
    def forget(path):
        try:
            os.remove(path)
        except FileNotFoundError:
            pass


def main():
    asked = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=end_with_the_caller, daemon=True).start()
    try:
        fetch(asked, Part(asked))
    except Lasting as error:
        say({"failed": str(error)})
    except OSError as error:
        say({"failed": f"cannot write {asked['part']}: {describe(error)}"})
    else:
        say("done")


def fetch(asked, part):
    failures = 0
    while True:
        before = part.size
        try:
            return try_once(asked, part)
        except Passing as error:
            failures = 1 if part.size - before >= WORTHWHILE_BYTES else failures + 1
            if failures >= asked["tries"]:
                raise Lasting(
                    f"{error}; gave up after {failures} tries in a row, {part.size} bytes are kept\n"
                    "  try: the same command later; check the network, the proxy and HF_ENDPOINT"
                ) from error
            pause_s = error.retry_after_s
            if pause_s is None:
                pause_s = asked["first_pause_s"] * 2 ** (failures - 1)
            pause_s = min(pause_s, asked["longest_pause_s"])
            say({"retry": {"cause": str(error), "in_s": pause_s}})
            time.sleep(pause_s)


def try_once(asked, part):
    """One request: the rest of the file if the server still has the same, else all of it."""
    etag = part.etag()
    if etag is not None and part.size == part.expected:
        return
    headers = {"User-Agent": "cargo-xtask-worker-download-model", "Accept-Encoding": "identity"}
    if asked["token"]:
        headers["Authorization"] = f"Bearer {asked['token']}"
    if etag is not None:
        headers["Range"] = f"bytes={part.size}-"
        headers["If-Range"] = etag
    answer = ask(part.url, headers, asked["timeout_s"])
    if answer.code == 206 and etag is not None and continues(answer, part, etag):
        pass
    elif answer.code == 200:
        expect_size(answer, part)
        part.restart(strong_etag(answer))
    elif answer.code in (206, 416) and etag is not None:
        # What is there is no beginning of what the server has now: ask for all of it.
        part.restart()
        return try_once(asked, part)
    else:
        raise refusal(answer, asked["longest_pause_s"])
    read_body(answer, part)


def ask(url, headers, timeout_s):
    """Sends a GET and follows redirects, until there is an answer that is none."""
    for _ in range(REDIRECT_LIMIT + 1):
        answer = ask_one(check(url), headers, timeout_s)
        if answer.code not in (301, 302, 303, 307, 308):
            return answer
        location = answer.headers.get("Location")
        if location is None:
            raise Lasting("a redirect that does not say where to")
        following = check(urllib.parse.urljoin(url, location.strip()))
        if url.startswith("https:") and not following.startswith("https:"):
            raise Lasting(
                f"{origin(url)} redirects from https to {origin(following)}, which is not safe to follow"
            )
        if origin(url) != origin(following):
            headers = {n: v for n, v in headers.items() if n.lower() not in FOR_ONE_HOST}
        url = following
    raise Lasting(f"more than {REDIRECT_LIMIT} redirects, the last one to {origin(url)}")


def ask_one(url, headers, timeout_s):
    handlers = [KeepRedirects]
    if urllib.parse.urlsplit(url).hostname in ("127.0.0.1", "localhost"):
        # No proxy leads to this very machine.
        handlers.append(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(url, headers=headers)
    try:
        return urllib.request.build_opener(*handlers).open(request, timeout=timeout_s)
    except urllib.error.HTTPError as error:
        return error
    except (OSError, http.client.HTTPException, ValueError) as error:
        cause = f"asking {origin(url)}: {describe(error)}"
        raise (Lasting(cause + CHECK_NETWORK) if is_lasting(error) else Passing(cause)) from error


def read_body(answer, part):
    reported_at = 0.0
    while True:
        try:
            chunk = answer.read1(1 << 16)
        except (OSError, http.client.HTTPException) as error:
            raise Passing(f"the connection broke: {describe(error)}") from error
        if not chunk:
            break
        part.append(chunk)
        if time.monotonic() - reported_at >= REPORT_INTERVAL_S:
            reported_at = time.monotonic()
            say({"at": part.size})
    if part.size < part.expected:
        raise Passing(f"the server hung up after {part.size} of {part.expected} bytes")


def continues(answer, part, etag):
    """Whether a 206 brings exactly what follows on what is there, of the very same entity."""
    expected = f"bytes {part.size}-{part.expected - 1}/{part.expected}"
    return answer.headers.get("Content-Range") == expected and strong_etag(answer) == etag


def expect_size(answer, part):
    """A size that can't be right is refused before anything is written."""
    length = answer.headers.get("Content-Length", "")
    if length.isdigit() and int(length) != part.expected:
        raise Lasting(
            f"the server offers a file of {length} bytes, and the catalog names {part.expected}: "
            "it is another file"
        )


def strong_etag(answer):
    """An ETag that promises the same bytes; a weak one doesn't."""
    etag = answer.headers.get("ETag", "").strip()
    return etag if etag.startswith('"') and len(etag) > 2 else None


def refusal(answer, longest_pause_s):
    """What a status other than success means for the user. Only 5xx and a short 429 may pass."""
    said = f"the server answered {answer.code}"
    if "X-Error-Message" in answer.headers:
        said += f": {answer.headers['X-Error-Message']}"
    wait = answer.headers.get("Retry-After", "").strip()
    wait_s = int(wait) if wait.isdigit() else None
    if 500 <= answer.code < 600:
        return Passing(said, wait_s)
    if answer.code == 429 and wait_s is not None and wait_s <= longest_pause_s:
        return Passing(said, wait_s)
    if answer.code == 429 and wait:
        return Lasting(f"{said}: too many requests\n  try: again after {wait} (its Retry-After, in seconds or as a date)")
    if answer.code == 429:
        return Lasting(f"{said}: too many requests\n  try: again later, or set HF_TOKEN for a higher limit")
    if answer.code in (401, 403):
        return Lasting(
            f"{said}: it asks for permission\n"
            "  try: set HF_TOKEN to a token that may read this repository"
        )
    if answer.code == 404:
        return Lasting(
            f"{said}: it does not have this file\n"
            "  try: check HF_ENDPOINT and .test-models/catalog.toml"
        )
    return Lasting(f"{said}, which is no file")


def check(url):
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Lasting(f"`{url}` is not an http or https URL")
    return url


def origin(url):
    """Scheme, host and port: whom we talk to. Never the path or the query, which may be signed."""
    parts = urllib.parse.urlsplit(url)
    usual = {"http": 80, "https": 443}[parts.scheme]
    port = parts.port or usual
    return f"{parts.scheme}://{parts.hostname}" + ("" if port == usual else f":{port}")


def is_lasting(error):
    """Whether the same request would fail again."""
    cause = getattr(error, "reason", error)
    if isinstance(cause, socket.gaierror):
        return cause.errno != socket.EAI_AGAIN
    return isinstance(error, ValueError) or isinstance(cause, ssl.SSLCertVerificationError)


def describe(error):
    return str(getattr(error, "reason", error)) or type(error).__name__


def end_with_the_caller():
    """The caller holds our standard input open for as long as it lives."""
    sys.stdin.buffer.read()
    os._exit(1)


def say(line):
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


status = 0
try:
    main()
except Exception as error:
    print(describe(error), file=sys.stderr, flush=True)
    status = 1
# Not sys.exit: the thread that reads standard input would hold up, or abort, an orderly end.
os._exit(status)
