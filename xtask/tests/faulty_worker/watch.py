"""Keeps an eye on the client and on the clock while a request waits and runs."""

import os
import time

from . import log
from .faults import active
from .options import ApiError
from .wire import STALL_S, ClientGone

RETRY_LATER = {"Retry-After": "1"}


class Cut(Exception):
    """The time for draining is over."""


def not_ready(reason):
    """The worker loads or drains."""
    return ApiError(503, "not_ready", "the worker is %s" % reason, headers=RETRY_LATER)


class Watch:
    """One request's client, and its place among the generations."""

    def __init__(self, server, connection, streamed):
        self.server = server
        self.worker = server.worker
        self.connection = connection
        self.streamed = streamed
        self.departures = server.departures
        self.has_place = False
        # Set under faults that go on for a client that has left.
        self.ghost_until = None

    def leave_place(self):
        """Gives the place back, once."""
        if self.has_place:
            self.has_place = False
            self.worker.places.leave()
            self.worker.refresh_state()

    def client_left(self):
        """The client of a running generation has gone."""
        if active("leave.dies"):
            os._exit(1)
        if active("leave.slot_leaked"):
            self.has_place = False
        self.server.departures += 1
        log.info("Client left, generation stopped")

    def check_waiting(self):
        """Raises when there is no point in waiting for a place."""
        if self.worker.draining and active("stop.drops_waiting"):
            raise not_ready("draining")
        try:
            self.connection.check_client()
        except ClientGone:
            if not active("leave.queued_goes_on"):
                raise
            self._become_ghost(600)

    def pause(self, seconds, prefill=False):
        """Waits, and raises as soon as going on has become pointless."""
        until = time.monotonic() + seconds
        while True:
            self._check_running(prefill)
            left = until - time.monotonic()
            if left <= 0:
                return
            if self.ghost_until:
                spin_for(left / 2)
            time.sleep(min(left, 0.02))

    def push(self, data):
        """Sends one piece of the stream."""
        try:
            if active("robust.slow_reader_blocks"):
                with self.server.engine_lock:
                    self.connection.push(data)
                    self.connection.flush(STALL_S)
            else:
                self.connection.push(data)
        except ClientGone as gone:
            self._client_gone(gone, False)

    def _check_running(self, prefill):
        if self.worker.cut:
            raise Cut
        if active("leave.kills_others") and self.server.departures > self.departures:
            raise ClientGone("cut")
        if self.ghost_until:
            if time.monotonic() > self.ghost_until:
                raise ClientGone("late")
            return
        try:
            self.connection.check_client()
        except ClientGone as gone:
            self._client_gone(gone, prefill)

    def _client_gone(self, gone, prefill):
        goes_on = (
            (active("leave.fin_goes_on") and gone.how == "fin")
            or (active("leave.rst_goes_on") and gone.how == "rst")
            or (active("leave.plain_goes_on") and not self.streamed)
            or (active("leave.prefill_goes_on") and prefill)
        )
        if active("leave.stops_late"):
            self._become_ghost(3)
        elif goes_on:
            self._become_ghost(600)
        else:
            raise gone

    def _become_ghost(self, seconds):
        self.connection.deaf = True
        self.ghost_until = time.monotonic() + seconds


def spin_for(seconds):
    """Uses the CPU as a generation would, so that one which should have stopped shows."""
    until = time.monotonic() + min(seconds, 0.02)
    while time.monotonic() < until:
        pass
