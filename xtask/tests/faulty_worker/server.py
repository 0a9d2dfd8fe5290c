"""The port: takes connections, serves each on a thread of its own, and turns refusals into answers."""

import os
import socket
import threading
import time

from . import distort, log, openai, variants
from .exchange import Exchange
from .faults import active
from .options import ApiError
from .watch import Cut
from .wire import ClientGone, Connection


class Server:
    """Answers on a listening socket until the process ends."""

    def __init__(self, listener, worker):
        self.listener = listener
        self.worker = worker
        self.connections = set()
        self.engine_lock = threading.Lock()
        self.degraded_by = set()
        self.departures = 0
        self.locked = False

    def start(self):
        """Takes connections on a thread of its own, and serves each on another."""
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            while active("robust.idle_limit_100") and len(self.connections) >= 100:
                time.sleep(0.05)
            try:
                sock, _ = self.listener.accept()
                if active("robust.slow_reader_blocks"):
                    shrink_send_buffer(sock)
                connection = Connection(sock)
            except OSError:
                if self.listener.fileno() < 0:
                    return
                # Out of files, or the client has gone already: the next one may fare better.
                time.sleep(0.02)
                continue
            self.connections.add(connection)
            if active("robust.dies_at_150_connections") and len(self.connections) >= 150:
                os._exit(1)
            if active("robust.single_threaded"):
                self._serve(connection)
            else:
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        try:
            while self._serve_one(connection):
                pass
        except (ClientGone, Cut, OSError):
            if active("robust.half_request_kills") and connection.stage in ("head", "body"):
                os._exit(1)
        finally:
            self.connections.discard(connection)
            connection.close()

    def _serve_one(self, connection):
        """One request; returns whether another may follow."""
        try:
            head = connection.read_head()
        except ApiError as refusal:
            if active("robust.half_request_kills") and connection.at_end:
                os._exit(1)
            self._refuse(connection, refusal, False)
            return False
        if head is None:
            return False
        self.worker.answering_changed(+1)
        if active("benign.other_logs"):
            log.info("%s %s from a client" % (head.method, head.path))
        try:
            self._hold_up(connection)
            exchange = openai.OpenAiExchange if openai.is_spoken() else Exchange
            exchange(self, connection, head).run()
        except ApiError as refusal:
            self._note(refusal, connection)
            self._refuse(connection, refusal, self.may_go_on(connection, head))
        finally:
            self.worker.answering_changed(-1)
        return self.may_go_on(connection, head)

    @staticmethod
    def may_go_on(connection, head):
        if connection.deaf or active("robust.single_threaded") or variants.CLOSES:
            return False
        return head.keeps_alive() and connection.body_read

    @staticmethod
    def _refuse(connection, refusal, keep_alive):
        worded = openai.error if openai.is_spoken() else distort.error
        status, headers, kind, body = worded(refusal)
        connection.answer(status, headers, kind, body, keep_alive)

    def _hold_up(self, connection):
        """Where a fault makes a request wait for something that is none of its business."""
        if active("start.port_deaf_while_loading"):
            self.worker.loaded.wait()
        if active("crash.deadlocks_after_inference") and self.worker.served:
            threading.Event().wait()
        if active("robust.slow_sender_blocks"):
            self._wait_for_stages(connection, ("head", "body"))
        if active("error.lying_length_blocks"):
            self._wait_for_stages(connection, ("body",))

    def _wait_for_stages(self, own, stages):
        while any(other is not own and other.stage in stages for other in list(self.connections)):
            time.sleep(0.01)

    def _note(self, refusal, connection):
        """What refusals do to a worker that doesn't take them well."""
        log.info("Refused with %d %s" % (refusal.status, refusal.code))
        self.degraded_by.add(refusal.code)
        self.worker.heartbeat.refused_one = True
        if refusal.code == "bad_request" and connection.at_end and active("robust.half_request_kills"):
            os._exit(1)
        if refusal.code == "body_too_large" and active("error.oversize_hangs_up"):
            raise ClientGone("cut")
        if refusal.code != "malformed_json":
            return
        if active("error.crashes_on_bad_json"):
            os._exit(101)
        if active("error.drops_connection"):
            raise ClientGone("cut")
        if active("error.never_answers_bad_json"):
            time.sleep(60)


def shrink_send_buffer(sock):
    """Makes a client that doesn't read felt after a few kilobytes."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
