"""What only the faulty worker itself can say of itself: its table is whole, each of its generated faults
breaks its own promise and no other, and its canned text ends where it has to.

That the good one keeps the contract, and that each fault shows, is for `cargo xtask worker:mutants` to
say. `cargo test -p xtask --test mutants the_faulty_worker` runs this; so does

    python3 -m unittest discover -s xtask/tests

Nothing here waits for a clock, opens a port or starts a worker that serves.
"""

import ast
import collections
import faulthandler
import json
import os
import pathlib
import re
import subprocess
import sys
import types
import unittest
from unittest import mock

# The package, not the script of that name.
from faulty_worker import faults
from faulty_worker.engine import Generation
from faulty_worker.knowledge import Knowledge
from faulty_worker.options import ApiError, Options, parse_json

HERE = pathlib.Path(__file__).resolve().parent
# The work of a second, but a busy machine may stand still for a minute. What takes longer hangs, and is
# shown where it does.
LIMIT_S = 240


def setUpModule():
    faulthandler.dump_traceback_later(LIMIT_S, exit=True)


def tearDownModule():
    faulthandler.cancel_dump_traceback_later()


def with_fault(*fault_ids):
    """This process, for a while, with these faults and no others."""
    return mock.patch.object(faults, "ACTIVE", fault_ids)


def refused_field(field, value):
    """The field that a request is refused for, or `None` where the request is taken."""
    body = json.dumps(dict({"prompt": "Hello"}, **{field: value})).encode()
    try:
        Options(parse_json(body))
    except ApiError as refusal:
        assert (refusal.status, refusal.code) == (422, "invalid_field"), refusal
        return refusal.field
    return None


class Table(unittest.TestCase):
    """The table of faults, held against the sources that act on them."""

    generated = {"accept", "reject"}

    def setUp(self):
        self.ids = [fault.id for fault in faults.FAULTS]
        self.areas = {fault.area for fault in faults.FAULTS}
        self.named = set()
        for path in HERE.glob("faulty_worker/*.py"):
            if path.name != "faults.py":
                self.named |= set(self.strings_of(path))

    @staticmethod
    def strings_of(path):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value

    def test_no_fault_is_there_twice(self):
        twice = [fault_id for fault_id, count in collections.Counter(self.ids).items() if count > 1]
        self.assertEqual(twice, [])

    def test_each_fault_is_acted_on(self):
        written = [fault.id for fault in faults.FAULTS if fault.area not in self.generated]
        idle = [fault_id for fault_id in written if fault_id not in self.named]
        self.assertEqual(idle, [], "in the table, but nothing acts on them")

    def test_each_fault_that_is_acted_on_is_in_the_table(self):
        """`active` looks that up when it is asked; the tables of `chosen` are asked by nobody else."""
        unlisted = []
        for name in self.named:
            area, dot, rest = name.partition(".")
            is_fault = dot and area in self.areas and re.fullmatch(r"[a-z0-9_]+", rest)
            # What ends so is the beginning of several.
            known = any(fault_id.startswith(name) for fault_id in self.ids) if name.endswith("_") else name in self.ids
            if is_fault and not known:
                unlisted.append(name)
        self.assertEqual(unlisted, [], "acted on, but not in the table")

    def test_a_fault_that_there_is_not_is_refused(self):
        worker = subprocess.run(
            [sys.executable, str(HERE / "faulty_worker.py")], env=dict(os.environ, WORKER_FAULT="beat.wrong_di"),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=LIMIT_S,
        )
        self.assertEqual(worker.returncode, 2)
        self.assertRegex(worker.stderr.decode(), r"\Aerror: WORKER_FAULT beat\.wrong_di: no such fault[^\n]*\n\Z")


# A value of each kind that no request may have there.
BAD = {
    "null": None, "boolean": True, "number": 5, "string": "5", "array": ["x"], "object": {}, "zero": 0, "negative": -1,
    "fraction": 1.5, "empty": "", "empty_item": [""], "number_item": [5], "null_item": [None], "seventeen": ["a"] * 17,
}
ABOVE = {"temperature": 2.01, "top_p": 1.5, "seed": 2**64}

# A value of each kind at the edge of what every worker has to take.
RIGHT = {
    ("prompt", "space"): " ", ("prompt", "nul"): "\0", ("prompt", "emoji"): "\U0001f41d",
    ("max_tokens", "one"): 1, ("temperature", "two"): 2, ("temperature", "tiny"): 1e-9,
    ("top_p", "one"): 1, ("top_p", "tiny"): 1e-9, ("top_k", "one"): 1,
    ("seed", "zero"): 0, ("seed", "beyond_32_bits"): 2**32 + 1, ("seed", "beyond_53_bits"): 2**53 + 1,
    ("seed", "largest"): 2**64 - 1,
    ("stop", "none"): [], ("stop", "one"): ["a"], ("stop", "string"): "a", ("stop", "sixteen"): ["a"] * 16,
    ("stream", "false"): False,
}


def bad_value(field, kind):
    """A value of this kind, which the field may not have."""
    return ABOVE[field] if kind == "above" else BAD[kind]


class Generated(unittest.TestCase):
    """The faults that are made of a field and a kind of value."""

    def test_the_good_worker_refuses_what_is_bad_and_takes_what_is_right(self):
        with with_fault():
            for field, kind in faults.ACCEPTED:
                with self.subTest(field=field, kind=kind):
                    self.assertEqual(refused_field(field, bad_value(field, kind)), field)
            for field, kind, _ in faults.REJECTED:
                with self.subTest(field=field, kind=kind):
                    self.assertIsNone(refused_field(field, RIGHT[field, kind]))

    def test_each_of_them_takes_its_own_bad_value_and_no_other(self):
        for field, kind in faults.ACCEPTED:
            with self.subTest(field=field, kind=kind), with_fault("accept.%s_%s" % (field, kind)):
                taken = [key for key in faults.ACCEPTED if refused_field(key[0], bad_value(*key)) is None]
                self.assertEqual(taken, [(field, kind)])

    def test_each_of_them_refuses_its_own_right_value_and_no_other(self):
        for field, kind, _ in faults.REJECTED:
            with self.subTest(field=field, kind=kind), with_fault("reject.%s_%s" % (field, kind)):
                refused = [key for key, value in RIGHT.items() if refused_field(key[0], value)]
                self.assertEqual(refused, [(field, kind)])


class Text(unittest.TestCase):
    """The canned text, and where it ends."""

    def generate(self, **options):
        """The texts of all tokens, and the generation that made them."""
        body = dict({"prompt": "Hello, how are you?", "max_tokens": 20, "temperature": 0}, **options)
        config = types.SimpleNamespace(prefill_ms=0, token_ms=0, answer_tokens=0)
        with with_fault():
            generation = Generation(Options(body), config, lambda *_, **__: None, Knowledge("no such model"))
            return [text for _, text, _ in generation], generation

    def test_it_shows_what_a_harness_must_not_stumble_over(self):
        texts, generation = self.generate()
        self.assertEqual((len(texts), generation.finish_reason), (20, "length"))
        self.assertIn("", texts, "no character is split over tokens")
        inside = [before[-1:] + after[:1] for before, after in zip(texts, texts[1:])]
        self.assertTrue(any(pair.isalpha() and len(pair) == 2 for pair in inside), "no word is split over tokens")

    def test_it_ends_before_a_stop_string_wherever_the_tokens_end(self):
        text = "".join(self.generate()[0])
        for at in range(len(text) - 6):
            stop = text[at : at + 6]
            with self.subTest(stop=stop):
                texts, generation = self.generate(stop=["never there", stop])
                self.assertEqual(("".join(texts), generation.finish_reason), (text[: text.index(stop)], "stop"))


if __name__ == "__main__":
    unittest.main()
