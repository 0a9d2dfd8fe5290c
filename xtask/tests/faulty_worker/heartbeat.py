"""Heartbeats: when they are due, and how they get to the hive. Knows nothing of HTTP requests served.

Two threads: one decides that a beat is due (every interval, and on each change of state), one sends. A
beat that waits for a slow hive is given up after `LIMIT_S`, or as soon as a newer one has waited behind
it for long enough; then only the newest of those waiting is sent, so an outage never ends in a burst.
"""

import collections
import os
import selectors
import socket
import struct
import threading
import time
import zlib
from urllib.parse import urlsplit

from . import distort, log
from .faults import active
from .wire import to_json

LIMIT_S = 5.0
# A beat that is younger than this, or than half an interval, is not given up for a newer one.
PATIENCE_S = 0.5
LINGER_RESET = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)


class BeatLost(Exception):
    """The hive did not take the beat."""


class Heartbeat:
    """Says to the hive how the worker is, until the process ends."""

    def __init__(self, config, port, get_state, is_busy):
        self.config = config
        self.port = port
        self.get_state = get_state
        self.is_busy = is_busy
        self.connections = ()
        self.interval_s = config.heartbeat_interval
        if active("beat.option_ignored"):
            self.interval_s = 30
        if active("beat.default_is_ten") and "--heartbeat-interval" not in config.given:
            self.interval_s = 10
        self.condition = threading.Condition()
        self.waiting = collections.deque()
        self.sending = threading.Lock()
        self.sequence = 0
        self.missed = []
        self.failures = 0
        self.retry_at = 0.0
        self.muted = False
        self.refused_one = False
        self.last_due = time.monotonic()
        self.first_timestamp = distort.timestamp(time.time())
        self.taken = threading.Event()

    def start(self):
        """Starts both threads; the first beat is due at once."""
        if not active("beat.first_late"):
            self.due(self.get_state())
        log.info("Starting heartbeat task")
        for task in (self._tick, self._send_all):
            threading.Thread(target=task, daemon=True).start()
        log.info("Heartbeat task started (%gs interval)" % self.interval_s)

    def due(self, state):
        """Puts one beat in the line."""
        if active("beat.only_one") and self.sequence:
            return
        with self.condition:
            self.last_due = time.monotonic()
            for _ in range(2 if active("beat.double") else 1):
                self.sequence += 1
                ends = state == "Draining" and active("beat.last_out_of_sequence")
                self.waiting.append((1 if ends else self.sequence, state, distort.timestamp(time.time())))
            self.condition.notify_all()

    def state_changed(self, state):
        """A beat is due because the state has changed."""
        if active("beat.change_not_at_once") or (active("beat.first_late") and self.sequence == 0):
            return
        if active("beat.no_draining") and state == "Draining":
            self.muted = True
            return
        self.due(state)

    def drain(self, limit_s):
        """Waits until every beat in the line is sent or lost."""
        give_up = time.monotonic() + limit_s
        while time.monotonic() < give_up and (self.waiting or self.sending.locked()):
            time.sleep(0.005)

    # When

    def _tick(self):
        started = time.monotonic()
        number = 0
        while active("benign.counts_from_change"):
            left = self.last_due + self.interval_s - time.monotonic()
            if left > 0:
                time.sleep(left)
            else:
                self.due(self.get_state())
        while True:
            number += 1
            at = started + self._offset_s(number)
            slept_from = time.monotonic()
            time.sleep(max(0.0, at - slept_from))
            late_s = time.monotonic() - at
            if late_s > self.interval_s and not active("robust.burst_after_sigcont"):
                # The process was stopped: what was due meanwhile is not made up for.
                number = int((time.monotonic() - started) / self.interval_s)
                continue
            if active("beat.silent_under_load") and self.is_busy():
                continue
            if active("robust.no_beats_in_a_crowd") and len(self.connections) >= 100:
                continue
            if active("beat.late_under_load") and self.is_busy():
                time.sleep(max(0.3, self.interval_s * 0.5))
            self.due(self.get_state())

    def _offset_s(self, number):
        """When the periodic beat of this number is due, counted from the first beat."""
        if active("beat.irregular"):
            return self.interval_s * (number - number % 2 * 2 / 3)
        if active("beat.bursts"):
            return self.interval_s * ((number + 2) // 3 * 3)
        if active("beat.drifts_late"):
            return self.interval_s * number * 1.07
        if active("beat.drifts_early"):
            return self.interval_s * number * 0.93
        if active("benign.jittery_beats"):
            return self.interval_s * number + zlib.crc32(b"%d" % number) % 70 / 1000
        if active("beat.slow"):
            return self.interval_s * number * 1.3
        if active("beat.fast"):
            return self.interval_s * number * 0.6
        return self.interval_s * number

    # How

    def _send_all(self):
        while True:
            with self.condition:
                while not self.waiting:
                    self.condition.wait()
                self.sending.acquire()
                beat = self.waiting.popleft()
            try:
                is_patient = active("hive.backs_off") and time.monotonic() < self.retry_at
                if not self.muted and not is_patient:
                    self._send(beat)
            finally:
                self.sending.release()

    def _send(self, beat):
        payload = self._payload(beat)
        path = "/heartbeats/worker" if active("beat.wrong_path") else "/heartbeat/workers"
        url = self.config.hive_url.rstrip("/") + path
        if active("hive.path_dropped"):
            url = "http://" + urlsplit(url).netloc + path
        try:
            status = self._deliver(payload, url)
            if active("hive.burst_on_return") and status < 400:
                while self.missed:
                    self._deliver(self.missed.pop(0), url)
        except BeatLost as lost:
            self._failed(payload, str(lost))
            return
        if status < 400:
            self.taken.set()
            self.failures = 0
            if active("hive.resends_lost"):
                while self.missed:
                    self._deliver(self.missed.pop(), url)
        else:
            self._failed(payload, "the hive answered %d" % status)
            if active("hive.dies_on_500") and status >= 500:
                os._exit(1)
            self.muted = self.muted or active("hive.stops_on_500")

    def _failed(self, payload, cause):
        log.warn("Heartbeat %s failed: %s" % (payload.get("sequence"), cause))
        self.failures += 1
        self.retry_at = time.monotonic() + self.interval_s * 10
        self.missed.append(payload)
        del self.missed[:-50]
        with self.condition:
            while len(self.waiting) > 1:
                self.waiting.popleft()
        if active("hive.refuses_without_hive") and not self.taken.is_set():
            os.write(2, b"error: cannot start: the hive is absent\n")
            os._exit(1)
        if active("hive.dies_on_hangup") and cause == "the hive hung up":
            os._exit(1)
        if active("hive.gives_up") and self.failures >= 2:
            self.muted = True

    def _payload(self, beat):
        sequence, state, timestamp = beat
        if active("beat.timestamp_constant"):
            timestamp = self.first_timestamp
        strange = self.refused_one and active("beat.wrong_id_after_refusal")
        worker_id = "somebody-else" if strange else self.config.worker_id
        return distort.beat({
            "worker_id": worker_id, "state": state, "timestamp": timestamp, "sequence": sequence,
            "interval_s": self.interval_s, "model_ref": self.config.model_ref, "backend": self.config.backend,
            "device": self.config.device, "port": self.port,
        })

    def _deliver(self, payload, url):
        """Sends one beat and returns the status of the answer."""
        method, kind, body = "POST", "application/json", to_json(payload)
        if active("beat.get"):
            method = "GET"
        if active("beat.wrong_content_type"):
            kind = "text/plain"
        if active("beat.huge"):
            body = to_json(dict(payload, more="x" * (1 << 20)))
        if active("beat.not_json"):
            body = "&".join("%s=%s" % pair for pair in payload.items()).encode()
        parts = urlsplit(url)
        if active("benign.chunked_beats"):
            head = "%s %s HTTP/1.1\r\nHOST: %s\r\nCONTENT-TYPE: %s; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
            head %= (method, parts.path, parts.netloc, kind.title())
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        else:
            head = "%s %s HTTP/1.1\r\nHost: %s\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
            head %= (method, parts.path, parts.netloc, kind, len(body))
        request = head.encode() + body
        answer = self._exchange(parts.hostname, parts.port or 80, request)
        try:
            status = int(answer.split(b" ", 2)[1])
        except (IndexError, ValueError):
            raise BeatLost("the hive hung up" if not answer else "the hive's answer is not HTTP") from None
        if 300 <= status < 400 and active("hive.follows_redirects"):
            for line in answer.decode("latin-1").split("\r\n"):
                if line.lower().startswith("location:"):
                    self._deliver(payload, line.split(":", 1)[1].strip())
        return status

    def _exchange(self, host, port, request):
        """Connects, sends, and returns the answer's head; every wait ends at the limit."""
        started = time.monotonic()
        sock = None
        try:
            family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            sock = socket.socket(family, kind)
            sock.setblocking(False)
            sock.connect_ex(address)
            self._wait(sock, selectors.EVENT_WRITE, started)
            sock.setblocking(active("beat.huge"))
            sock.sendall(request)
            sock.setblocking(False)
            answer = b""
            while b"\r\n\r\n" not in answer and len(answer) < 65536:
                self._wait(sock, selectors.EVENT_READ, started)
                data = sock.recv(4096)
                if not data:
                    break
                answer += data
            return answer
        except BeatLost:
            # A reset, so that a hive that wakes up doesn't find a pile of old beats.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
            raise
        except ConnectionResetError:
            raise BeatLost("the hive hung up") from None
        except OSError as error:
            raise BeatLost(error.strerror or str(error)) from None
        finally:
            if sock:
                sock.close()

    def _wait(self, sock, event, started):
        with selectors.DefaultSelector() as selector:
            selector.register(sock, event)
            while not selector.select(0.02):
                age_s = time.monotonic() - started
                if active("hive.no_time_limit"):
                    continue
                if age_s > LIMIT_S:
                    raise BeatLost("the hive took longer than %g s" % LIMIT_S)
                if self.waiting and age_s > min(PATIENCE_S, self.interval_s / 2):
                    raise BeatLost("the hive is slow and a newer beat is due")
