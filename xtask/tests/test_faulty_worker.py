"""The faulty worker is the measure of the harness, so it is tested itself: when it is told nothing it
keeps the contract, and its table names what it can do. That each fault shows is for
`cargo xtask worker:mutants` to say.

    python3 -m unittest discover -s xtask/tests

Standard library only; free ports only; every process that is started here is killed here.
"""

import collections
import concurrent.futures
import glob
import http.client
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
WORKER = os.path.join(HERE, "faulty_worker.py")
MIB = 1024 * 1024
GREEDY = {"prompt": "Hello, how are you?", "max_tokens": 20, "temperature": 0}
JSON = {"Content-Type": "application/json"}


def gguf(architecture="llama", tensor_type=0, data=b"\0" * 256):
    """The bytes of a GGUF with one tensor."""

    def text(value):
        return struct.pack("<Q", len(value)) + value.encode()

    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 1)
    head += text("general.architecture") + struct.pack("<I", 8) + text(architecture)
    head += text("token_embd.weight") + struct.pack("<IQIQ", 1, 64, tensor_type, 0)
    return head + b"\0" * (-len(head) % 32) + data


class Hive:
    """Records beats; `mode` says how it answers: ok, 500, hang, close."""

    def __init__(self):
        self.beats = []
        self.mode = "ok"
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(64)
        self.port = self.listener.getsockname()[1]
        self.url = "http://127.0.0.1:%d" % self.port
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock):
        with sock:
            data = b""
            sock.settimeout(5)
            try:
                while b"\r\n\r\n" not in data or data.count(b"{") > data.count(b"}"):
                    got = sock.recv(65536)
                    if not got:
                        break
                    data += got
                head, _, body = data.partition(b"\r\n\r\n")
                if self.mode == "close":
                    return
                self.beats.append((time.monotonic(), head.decode(), body.decode()))
                if self.mode == "hang":
                    sock.settimeout(20)
                    sock.recv(1)
                    return
                status = b"500 Oops" if self.mode == "500" else b"200 OK"
                sock.sendall(b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\n\r\n{}")
            except OSError:
                pass

    def payloads(self):
        return [json.loads(body) for _, _, body in list(self.beats)]

    def wait_for(self, is_so, limit_s=30):
        until = time.monotonic() + limit_s
        while not (self.beats and is_so(self.payloads())):
            if time.monotonic() > until:
                raise AssertionError("the beats were %s" % self.payloads())
            time.sleep(0.01)

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def arguments(model, port, hive_url, *more):
    return [
        "--worker-id", "w-1", "--model", model, "--model-ref", "hf:test", "--backend", "cpu", "--device", "0",
        "--port", str(port), "--hive-url", hive_url, *more,
    ]


class Answer:
    """A plain HTTP answer."""

    def __init__(self, response):
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()

    def json(self):
        return json.loads(self.body)


def ask(port, method, path, body=None, headers=None, timeout=10):
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        client.request(method, path, body=body, headers=headers or {})
        return Answer(client.getresponse())
    finally:
        client.close()


def infer(port, timeout=10, **options):
    return ask(port, "POST", "/v1/inference", json.dumps(options), JSON, timeout)


def events_of(body):
    """The events of a stream's body as (name, data)."""
    found = []
    for block in body.decode().split("\n\n")[:-1]:
        name, data = block.split("\n")
        found.append((name.replace("event: ", ""), json.loads(data.replace("data: ", ""))))
    return found


class Case(unittest.TestCase):
    """Starts workers, and ends them whatever happens."""

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.model = self.file("model.gguf", gguf())
        self.hive = Hive()
        self.addCleanup(self.hive.close)

    def file(self, name, data):
        path = os.path.join(self.folder.name, name)
        with open(path, "wb") as file:
            file.write(data)
        return path

    def spawn(self, argv, **environment):
        process = subprocess.Popen(
            [sys.executable, WORKER] + argv, stderr=subprocess.PIPE, stdout=subprocess.PIPE,
            env=dict(os.environ, **environment), start_new_session=True,
        )
        self.addCleanup(self.end, process)
        return process

    @staticmethod
    def end(process):
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.communicate()

    def start(self, *more, interval="0.3", ready=True, hive_url=None, **environment):
        self.port = free_port()
        argv = arguments(self.model, self.port, hive_url or self.hive.url, "--heartbeat-interval", interval, *more)
        self.worker = self.spawn(argv, **environment)
        wait_until(lambda: answers(self.port, "/v1/ready" if ready else "/v1/health"))
        return self.worker


def answers(port, path):
    try:
        return ask(port, "GET", path).status == 200
    except OSError:
        return False


def wait_until(is_so, limit_s=5):
    until = time.monotonic() + limit_s
    while True:
        so = is_so()
        # Asked in this order, because the question itself may have taken too long.
        if time.monotonic() > until:
            raise AssertionError("it did not become so within %g s" % limit_s)
        if so:
            return
        time.sleep(0.005)


class StartUp(Case):
    def test_what_cannot_be_served_is_refused_with_one_line(self):
        taken = socket.socket()
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        self.addCleanup(taken.close)
        truncated = self.file("cut.gguf", gguf(data=b"\0" * 255))
        cases = {
            "no such file": {"--model": "/no/such.gguf"},
            "not a GGUF": {"--model": self.file("text.gguf", b"hello")},
            "is a directory": {"--model": self.folder.name},
            "1 bytes are missing": {"--model": truncated},
            "inside its header": {"--model": self.file("head.gguf", gguf()[:60])},
            "architecture": {"--model": self.file("arch.gguf", gguf(architecture="rnn"))},
            "quantisation": {"--model": self.file("type.gguf", gguf(tensor_type=99))},
            "this build has only": {"--backend": "cuda"},
            "unknown, allowed": {"--backend": "tpu"},
            "only device 0": {"--device": "9"},
            "address already in use": {"--port": str(taken.getsockname()[1])},
            "WORKER_API_TOKEN": {"--host": "0.0.0.0"},
            "is not a value": {"--port": "70000"},
            "no such option": {"--portt": "1"},
        }
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            for cause, (code, seconds, text) in zip(cases, pool.map(self.refused, cases.values())):
                with self.subTest(cause):
                    self.assertNotEqual(code, 0)
                    self.assertLess(seconds, 2)
                    self.assertRegex(text, r"\Aerror: [^\n]+: [^\n]+\n\Z")
                    self.assertIn(cause.lower(), text.lower())

    def refused(self, changes):
        options = arguments(self.model, free_port(), self.hive.url)
        for name, value in changes.items():
            options += [name, value]
        started = time.monotonic()
        process = self.spawn(options)
        text = process.communicate(timeout=5)[1].decode()
        return process.returncode, time.monotonic() - started, text

    def test_it_answers_while_it_loads_and_says_so(self):
        self.start(ready=False, FAULTY_LOAD_MS="600")
        self.assertEqual(ask(self.port, "GET", "/v1/health").json(),
                         {"status": "loading", "model_loaded": False, "worker_id": "w-1"})
        ready = ask(self.port, "GET", "/v1/ready")
        self.assertEqual((ready.status, ready.json()), (503, {"ready": False, "reason": "loading"}))
        self.assertIn("retry-after", ready.headers)
        early = infer(self.port, prompt="x")
        self.assertEqual((early.status, early.json()["error"]["code"]), (503, "not_ready"))
        self.assertIn("retry-after", early.headers)
        wait_until(lambda: answers(self.port, "/v1/ready"))
        self.assertEqual(ask(self.port, "GET", "/v1/health").json()["status"], "healthy")
        self.hive.wait_for(lambda beats: beats and beats[-1]["state"] == "Ready")
        self.assertEqual(self.hive.payloads()[0]["state"], "Loading")

    def test_a_token_is_asked_for_where_there_is_one(self):
        self.start(ready=False, WORKER_API_TOKEN="s3cret")
        for given in ({}, {"Authorization": "Bearer s3cre"}, {"Authorization": "Basic s3cret"}):
            answer = ask(self.port, "GET", "/v1/health", headers=given)
            self.assertEqual((answer.status, answer.json()["error"]["code"]), (401, "unauthorized"))
        self.assertEqual(ask(self.port, "GET", "/v1/health", headers={"Authorization": "Bearer s3cret"}).status, 200)
        self.worker.terminate()
        self.assertNotIn(b"s3cret", self.worker.communicate(timeout=5)[1])

    # A worker with a token never answers `start`'s question with 200; any answer will do there.
    def start(self, *more, **environment):
        if "WORKER_API_TOKEN" not in environment:
            return super().start(*more, **environment)
        self.port = free_port()
        environment.pop("ready")
        self.worker = self.spawn(arguments(self.model, self.port, self.hive.url), **environment)
        wait_until(lambda: is_open(self.port))
        return self.worker


def is_open(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


class Inference(Case):
    def test_answers_agree_with_themselves(self):
        self.start()
        first = infer(self.port, **GREEDY).json()
        self.assertEqual((first["tokens"], first["finish_reason"]), (20, "length"))
        self.assertEqual(first["usage"], {"prompt_tokens": 5, "completion_tokens": 20})
        self.assertTrue(all(first["timings"][name] >= 0 for name in ("queue_ms", "prefill_ms", "decode_ms")))
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            beside = list(pool.map(lambda _: infer(self.port, **GREEDY).json()["text"], range(8)))
        self.assertEqual(set(beside), {first["text"]})

        def sampled(seed):
            return infer(self.port, prompt="x", max_tokens=12, seed=seed).json()["text"]

        self.assertEqual(sampled(7), sampled(7))
        self.assertNotEqual(sampled(7), sampled(8))

        def drawn():
            return infer(self.port, prompt="x", max_tokens=12).json()["text"]

        self.assertNotEqual(drawn(), drawn())
        self.assertEqual(infer(self.port, prompt="x").json()["tokens"], 128)

    def test_a_stream_equals_the_plain_answer_and_arrives_as_it_is_made(self):
        self.start(FAULTY_TOKEN_MS="20")
        plain = infer(self.port, **GREEDY).json()
        client = socket.create_connection(("127.0.0.1", self.port))
        body = json.dumps(dict(GREEDY, stream=True)).encode()
        client.sendall(request(body))
        arrivals, received = [], b""
        while b"0\r\n\r\n" not in received:
            received += client.recv(65536)
            arrivals.append(time.monotonic())
        client.close()
        self.assertGreater(len(arrivals), 15)
        self.assertGreater(arrivals[-1] - arrivals[0], 0.3)
        self.assertIn(b"text/event-stream", received)

        stream = infer(self.port, stream=True, **GREEDY)
        events = events_of(stream.body)
        self.assertEqual([data["index"] for name, data in events if name == "token"], list(range(20)))
        self.assertEqual("".join(data.get("text", "") for _, data in events), plain["text"])
        self.assertEqual([name for name, _ in events[20:]], ["end"])
        end = events[-1][1]
        self.assertEqual({key: end[key] for key in ("tokens", "finish_reason", "usage")},
                         {key: plain[key] for key in ("tokens", "finish_reason", "usage")})
        self.assertIn("timings", end)
        self.assertIn("", [data.get("text") for _, data in events], "no character was split over tokens")

    def test_it_stops_before_a_stop_string_wherever_the_tokens_end(self):
        self.start(FAULTY_TOKEN_MS="0")
        text = infer(self.port, **GREEDY).json()["text"]
        for at in range(4, 30):
            stop = text[at : at + 6]
            expected = text[: text.index(stop)]
            plain = infer(self.port, stop=["never there", stop], **GREEDY).json()
            self.assertEqual((plain["text"], plain["finish_reason"]), (expected, "stop"))
            streamed = events_of(infer(self.port, stop=stop, stream=True, **GREEDY).body)
            self.assertEqual("".join(data.get("text", "") for _, data in streamed), expected)
            self.assertEqual(streamed[-1][1]["tokens"], len(streamed) - 1)

    def test_an_end_token_is_a_stop(self):
        self.start(FAULTY_ANSWER_TOKENS="7")
        answers = [infer(self.port, **dict(GREEDY, max_tokens=limit)).json() for limit in (6, 7, 8)]
        self.assertEqual([(answer["tokens"], answer["finish_reason"]) for answer in answers],
                         [(6, "length"), (7, "length"), (7, "stop")])

    def test_refusals(self):
        self.start("--ctx-size", "64")
        reference = infer(self.port, **GREEDY).json()["text"]
        good = json.dumps(GREEDY).encode()
        rows = [
            (400, "malformed_json", JSON, [
                b"", b" ", b"{", b"nope", good + b"x", b"\xff" + good, b'{"prompt":"\xff"}', b'{"prompt":"\\ud800"}',
                b'{"prompt":"a\x00b"}', b'{"prompt":"x","temperature":NaN}', b"[" * 100000, b"\xef\xbb\xbf" + good,
            ]),
            (415, "unsupported_media_type", {"Content-Type": "text/plain"}, [good]),
            (415, "unsupported_media_type", {}, [good]),
            (422, "invalid_field", JSON, [
                b"{}", b"[]", b'"x"', b"null", b'{"prompt":""}', b'{"prompt":5}', b'{"prompt":null}',
                b'{"prompt":"x","max_tokens":0}', b'{"prompt":"x","max_tokens":-1}',
                b'{"prompt":"x","max_tokens":"5"}', b'{"prompt":"x","max_tokens":5.0}',
                b'{"prompt":"x","max_tokens":true}', b'{"prompt":"x","max_tokens":1' + b"0" * 5000 + b"}",
                b'{"prompt":"x","temperature":2.01}', b'{"prompt":"x","temperature":-0.1}',
                b'{"prompt":"x","temperature":1e999}', b'{"prompt":"x","top_p":1.5}', b'{"prompt":"x","top_k":-1}',
                b'{"prompt":"x","seed":-1}', b'{"prompt":"x","seed":1.5}', b'{"prompt":"x","stream":1}',
                b'{"prompt":"x","stop":[""]}', b'{"prompt":"x","stop":5}', b'{"prompt":"x","maxtokens":5}',
                b'{"prompt":"x","prompt":"y"}', b'{"prompt":"x","stop":["a"' + b',"a"' * 16 + b"]}",
            ]),
            (422, "context_length_exceeded", JSON, [b'{"prompt":"x","max_tokens":64}']),
            (413, "body_too_large", JSON, [b" " * (MIB + 1)]),
        ]
        for status, code, headers, bodies in rows:
            for body in bodies:
                with self.subTest(code=code, body=body[:50]):
                    answer = ask(self.port, "POST", "/v1/inference", body, headers)
                    self.assertEqual((answer.status, answer.json()["error"]["code"]), (status, code))
                    self.assertTrue(answer.json()["error"]["message"])
                    self.assertEqual("field" in answer.json()["error"], status == 422)
        self.assertEqual(infer(self.port, prompt="x", max_tokens=63).status, 200)
        self.assertEqual(infer(self.port, **GREEDY).json()["text"], reference)
        wrong = ask(self.port, "DELETE", "/v1/inference")
        self.assertEqual((wrong.status, wrong.headers["allow"]), (405, "POST"))
        self.assertEqual(ask(self.port, "GET", "/v2").json()["error"]["code"], "not_found")

    def test_the_size_limit_is_exact_and_holds_for_chunks(self):
        self.start()
        body = json.dumps(GREEDY).encode()
        full = body + b" " * (MIB - len(body))
        self.assertEqual(ask(self.port, "POST", "/v1/inference", full, JSON).status, 200)
        chunked = dict(JSON, **{"Transfer-Encoding": "chunked"})
        for data, status in ((body, 200), (full, 200), (full + b" ", 413)):
            pieces = b"".join(
                b"%x\r\n%s\r\n" % (len(data[at : at + 60000]), data[at : at + 60000]) for at in range(0, len(data), 60000)
            )
            answer = ask(self.port, "POST", "/v1/inference", pieces + b"0\r\n\r\n", chunked)
            self.assertEqual(answer.status, status)


def request(body, extra=""):
    head = "POST /v1/inference HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s\r\n"
    return (head % (len(body), extra)).encode() + body


LONG = json.dumps({"prompt": "x", "max_tokens": 2000, "stream": True}).encode()


class Crowd(Case):
    def leave(self, body, how, after_first_byte):
        client = socket.create_connection(("127.0.0.1", self.port))
        client.sendall(request(body))
        if after_first_byte:
            client.recv(1000)
        if how == "rst":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        else:
            client.shutdown(socket.SHUT_WR)
            self.addCleanup(client.close)

    def test_a_full_queue_says_so_and_recovers(self):
        self.start("--max-queue", "1", FAULTY_SLOTS="1", FAULTY_TOKEN_MS="10")
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(lambda _: infer(self.port, **GREEDY), range(6)))
        self.assertEqual(sorted(answer.status for answer in answers), [200, 200, 429, 429, 429, 429])
        full = [answer for answer in answers if answer.status == 429][0]
        self.assertEqual(full.json()["error"]["code"], "queue_full")
        self.assertIn("retry-after", full.headers)
        self.assertEqual(infer(self.port, **GREEDY).status, 200)

    def test_a_client_that_leaves_frees_its_place(self):
        self.start("--max-queue", "0", FAULTY_SLOTS="1", FAULTY_PREFILL_MS="300")
        plain = LONG.replace(b"true", b"false")
        for body, how, decoding in ((LONG, "fin", True), (LONG, "rst", True), (LONG, "fin", False), (plain, "rst", False)):
            with self.subTest(how=how, decoding=decoding):
                self.leave(body, how, decoding)
                wait_until(lambda: infer(self.port, prompt="x", max_tokens=1).status == 200, 1.5)

    def test_a_client_that_leaves_the_queue_is_not_served(self):
        self.start("--max-queue", "1", FAULTY_SLOTS="1", FAULTY_TOKEN_MS="20")
        self.leave(LONG, "fin", True)
        self.leave(LONG, "rst", False)
        wait_until(lambda: infer(self.port, prompt="x", max_tokens=1).status == 200, 1)

    def test_slow_and_idle_clients_hold_nobody_up(self):
        self.start()
        idle = [socket.create_connection(("127.0.0.1", self.port)) for _ in range(200)]
        for client in idle[:20]:
            client.sendall(b"POST /v1/inference HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\nhalf")
        self.assertEqual(infer(self.port, timeout=2, **GREEDY).status, 200)
        self.assertEqual(ask(self.port, "GET", "/v1/health", timeout=0.25).status, 200)
        for client in idle:
            client.close()


class Beats(Case):
    def test_payload_rhythm_and_states(self):
        self.start(interval="0.4")
        infer(self.port, **GREEDY)
        self.hive.wait_for(lambda beats: len(beats) >= 7)
        beats = self.hive.payloads()
        self.assertEqual(
            set(self.hive.beats[0][1].split("\r\n")[:1]), {"POST /heartbeat/workers HTTP/1.1"})
        states = [beat["state"] for beat in beats]
        self.assertEqual([beat["sequence"] for beat in beats], list(range(1, len(beats) + 1)))
        self.assertEqual(states[:4], ["Loading", "Ready", "Busy", "Ready"])
        first = dict(beats[0])
        self.assertRegex(first.pop("timestamp"), r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\Z")
        self.assertEqual(first, {
            "worker_id": "w-1", "state": "Loading", "sequence": 1, "interval_s": 0.4, "model_ref": "hf:test",
            "backend": "cpu", "device": 0, "port": self.port,
        })
        started = self.hive.beats[0][0]
        late = [(at - started) % 0.4 for at, _, _ in self.hive.beats[4:]]
        self.assertTrue(all(min(each, 0.4 - each) < 0.1 for each in late), late)

    def test_a_hive_that_fails_changes_nothing_and_gets_no_burst(self):
        self.start(interval="0.25")
        for mode in ("500", "hang", "close"):
            with self.subTest(mode):
                self.hive.mode = mode
                self.assertEqual(infer(self.port, timeout=1, **GREEDY).status, 200)
                time.sleep(0.6)
                back, self.hive.mode = time.monotonic(), "ok"
                after = lambda: [at for at, _, _ in self.hive.beats if at > back]  # noqa: E731
                wait_until(lambda: len(after()) >= 3, 1.5)
                self.assertLess(after()[0] - back, 0.4)
                self.assertGreater(after()[2] - after()[0], 0.3)


class Stopping(Case):
    def test_what_runs_is_finished(self):
        self.start(FAULTY_TOKEN_MS="20")
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            running = pool.submit(infer, self.port, stream=True, **GREEDY)
            self.hive.wait_for(lambda beats: beats[-1]["state"] == "Busy")
            self.worker.terminate()
            wait_until(lambda: ask(self.port, "GET", "/v1/ready").json().get("reason") == "draining")
            self.assertEqual(ask(self.port, "GET", "/v1/health").json()["status"], "draining")
            self.assertEqual(infer(self.port, prompt="x").json()["error"]["code"], "not_ready")
            self.assertEqual(events_of(running.result().body)[-1][0], "end")
        self.assertEqual(self.worker.wait(timeout=3), 0)
        self.assertEqual(self.hive.payloads()[-1]["state"], "Draining")

    def test_the_time_for_draining_ends(self):
        self.start("--drain-timeout", "0.3", FAULTY_TOKEN_MS="50")
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            running = pool.submit(infer, self.port, prompt="x", max_tokens=500, stream=True)
            self.hive.wait_for(lambda beats: beats[-1]["state"] == "Busy")
            self.worker.send_signal(signal.SIGINT)
            self.assertEqual(self.worker.wait(timeout=2), 0)
            self.assertEqual(events_of(running.result().body)[-1][0], "error")

    def test_a_second_signal_ends_it_at_once(self):
        self.start(FAULTY_TOKEN_MS="50")
        client = socket.create_connection(("127.0.0.1", self.port))
        self.addCleanup(client.close)
        client.sendall(request(LONG))
        self.hive.wait_for(lambda beats: beats[-1]["state"] == "Busy")
        self.worker.terminate()
        self.hive.wait_for(lambda beats: beats[-1]["state"] == "Draining")
        self.worker.terminate()
        self.assertEqual(self.worker.wait(timeout=0.5), 128 + signal.SIGTERM)

    def test_it_stops_while_it_loads(self):
        self.start(ready=False, FAULTY_LOAD_MS="5000")
        self.worker.terminate()
        self.assertEqual(self.worker.wait(timeout=1), 0)


class Faults(unittest.TestCase):
    def setUp(self):
        listed = subprocess.run([sys.executable, WORKER, "--list-faults"], stdout=subprocess.PIPE, check=True)
        self.faults = [json.loads(line) for line in listed.stdout.splitlines()]

    def test_the_table_is_whole(self):
        ids = [fault["id"] for fault in self.faults]
        self.assertGreaterEqual(len(ids), 70)
        self.assertEqual([fault_id for fault_id, count in collections.Counter(ids).items() if count > 1], [])
        sources = ""
        for path in glob.glob(os.path.join(HERE, "faulty_worker", "*.py")):
            if not path.endswith("faults.py"):
                with open(path, encoding="utf-8") as file:
                    sources += file.read()
        unused = [fault_id for fault_id in ids if '"%s"' % fault_id not in sources]
        self.assertEqual(unused, [], "in the table, but nothing acts on them")


if __name__ == "__main__":
    unittest.main()
