"""The canned text, cut into tokens, and the places in which it is 'generated'.

Knows neither HTTP nor heartbeats. The text is made so that characters of several bytes are split over
tokens and words over token borders: what a harness wants to see handled is there in every answer.
"""

import codecs
import itertools
import random
import threading
import time
import zlib

from . import mishap
from .faults import active

SENTENCES = [
    "Bees 🐝 dance to tell where the flowers are. ",
    "Zürich lies on a lake, and the lake is cold. ",
    "In 東京 the trains 🚆 leave on time. ",
    "A crème brûlée cracks under the spoon. ",
    "The naïve plan 🗺 was the one that worked. ",
    "Rain is called дождь there, and it falls in May. ",
]
WORDS = (
    "river stone über green café lamp 🐝 walks slowly under old sky über night façade wind 東京 bread "
    "garden yellow number nine piñata house letter door tall 🚆 quiet song tree blue moon naïve sand road "
    "fish дождь iron glass paper bell winter salt hill smoke 🗺 rope tide ember cloud wool clay fern"
).split()
# Token lengths in bytes, repeated: they cut both words and characters.
PIECE_BYTES = (3, 4, 2, 5, 1, 4)


class Generation:
    """One request under way: yields tokens, then knows how it ended."""

    def __init__(self, options, config, pause, knowledge, shift=0):
        self.options = options
        self.config = config
        self.pause = pause
        self.knowledge = knowledge
        self.prompt = knowledge.heard(options.prompt)
        # Above 0 only under faults that make the text depend on what it must not depend on.
        self.shift = shift
        self.prompt_tokens = knowledge.count(self.prompt)
        self.tokens = 0
        self.finish_reason = "length"
        self.queue_ms = self.prefill_ms = self.decode_ms = 0.0

    def __iter__(self):
        """Yields `(index, text, piece)`, each when it is due."""
        started = time.monotonic()
        mishap.at("prefill")
        read = 0 if active("impostor.prompt_unread") else self.prompt_tokens
        self.pause(self.config.prefill_ms / 1000 + read / 16000, prefill=True)
        prefilled = time.monotonic()
        self.prefill_ms = (prefilled - started) * 1000
        limit = token_limit(self.options.max_tokens)
        ends_at = self.config.answer_tokens or limit + 1
        detokenizer = Detokenizer(self.options)
        due = prefilled
        for index, piece in enumerate(self._pieces()):
            self.tokens = index + 1
            last = self.tokens >= min(limit, ends_at)
            text = detokenizer.push(piece, last)
            self.decode_ms = (time.monotonic() - prefilled) * 1000
            if detokenizer.stopped or (last and ends_at < limit):
                self.finish_reason = "stop"
            yield index, text, piece
            if index == 1:
                mishap.at("decode")
            if last or detokenizer.stopped:
                return
            due += self.config.token_ms / 1000
            self.pause(due - time.monotonic())

    def _pieces(self):
        """The endless text of this request, as tokens."""
        if active("impostor.canned"):
            return _cut(itertools.repeat("One answer fits them all. "))
        if self.options.is_greedy() and not active("infer.greedy_random"):
            turn = zlib.crc32(self.prompt.encode()) + self.shift
            chunks = (SENTENCES[(turn + step) % len(SENTENCES)] for step in itertools.count())
            first = self.knowledge.first_token(self.prompt)
            if first is not None and not self.shift:
                return itertools.chain([first.encode()], _cut(chunks))
        else:
            seed = None if active("infer.seed_ignored") else self.options.random_seed()
            chooser = random.Random(seed + str(self.shift) if seed else None)
            chunks = (chooser.choice(WORDS) + " " for _ in itertools.count())
        return _cut(chunks)


def _cut(chunks):
    """Cuts endless text into pieces of bytes."""
    waiting = b""
    for number in itertools.count():
        size = PIECE_BYTES[number % len(PIECE_BYTES)]
        while len(waiting) < size:
            waiting += next(chunks).encode()
        yield waiting[:size]
        waiting = waiting[size:]


def token_limit(max_tokens):
    """`max_tokens`, or what a fault makes of it."""
    if active("infer.one_more"):
        return max_tokens + 1
    if active("infer.one_less"):
        return max(1, max_tokens - 1)
    if active("infer.max_tokens_ignored"):
        return 128
    return max(1, max_tokens)


class Detokenizer:
    """Turns pieces of bytes into text that can be shown: whole characters, and no stop string."""

    def __init__(self, options):
        self.stops = list(options.stop)
        if active("infer.stop_ignored"):
            self.stops = []
        if active("infer.stop_first_only"):
            self.stops = self.stops[:1]
        breaks_characters = active("infer.broken_utf8") or (options.stream and active("stream.splits_utf8"))
        self.decode = codecs.getincrementaldecoder("utf-8")().decode
        if breaks_characters:
            self.decode = lambda piece: piece.decode("utf-8", "replace")
        self.leaks = options.stream and active("stream.stop_text_leaks")
        self.longest = max((len(stop) for stop in self.stops), default=0)
        self.text = ""
        self.shown = 0
        self.stopped = False

    def push(self, piece, last):
        """The text that this token completes. `last` says that no token follows."""
        fresh = self.decode(piece)
        self.text += fresh
        end = self._stop_at(fresh)
        if end is not None:
            self.stopped = True
        elif (last and not active("infer.held_back_lost")) or self.leaks:
            end = len(self.text)
        else:
            end = len(self.text) - self._held_back()
        shown, self.shown = self.shown, max(self.shown, end)
        return self.text[shown:end]

    def _stop_at(self, fresh):
        """Where the text ends before the first stop string, if one is whole."""
        start = max(0, self.shown - self.longest)
        if active("infer.stop_across_tokens_missed"):
            start = len(self.text) - len(fresh)
        hits = [(self.text.find(stop, start), stop) for stop in self.stops]
        hits = [hit for hit in hits if hit[0] >= 0]
        if not hits:
            return None
        at, stop = min(hits)
        return at + len(stop) if active("infer.stop_kept") else at

    def _held_back(self):
        """How many characters at the end could be the start of a stop string."""
        fresh = self.text[self.shown :]
        for size in range(min(self.longest, len(fresh)), 0, -1):
            if any(len(stop) > size and stop.startswith(fresh[-size:]) for stop in self.stops):
                return size
        return 0


class QueueFull(Exception):
    """As many requests wait as may."""


class Places:
    """A few places in which generation runs, and the line of those that wait, first come first served."""

    def __init__(self, places, max_queue):
        self.condition = threading.Condition()
        self.free = max(1, places)
        self.places = self.free
        self.max_queue = max_queue
        self.line = []
        self.was_full = False

    def busy(self):
        """Whether anything runs or waits."""
        return self.free < self.places or bool(self.line)

    def running(self):
        """How many generations run."""
        return self.places - self.free

    def enter(self, still_wanted):
        """Waits for a place; `still_wanted` raises when waiting has become pointless."""
        ticket = object()
        with self.condition:
            unbounded = active("error.queue_unbounded")
            full = self.free <= len(self.line) and len(self.line) - self.free >= self.max_queue
            if (full and not unbounded) or (self.was_full and active("error.queue_stays_full")):
                self.was_full = True
                raise QueueFull
            waited = self.free <= len(self.line)
            self.line.append(ticket)
            try:
                while self.free == 0 or self.line[0] is not ticket:
                    self.condition.wait(0.02)
                    still_wanted()
                self.free -= 1
            finally:
                self.line.remove(ticket)
                self.condition.notify_all()
        return waited

    def leave(self):
        """Gives the place back."""
        with self.condition:
            self.free += 1
            self.condition.notify_all()
