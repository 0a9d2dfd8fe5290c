"""What the models of `.test-models` say and how they count, known by heart from the references there.

A harness that compares answers finds the model that it named. Under the faults of the area `impostor`
somebody else answers: another model, a damaged one, or the right one with another prompt.
"""

import json
import os
import pathlib
import unicodedata
import zlib

from .faults import active

REFERENCES = pathlib.Path(__file__).resolve().parents[3] / ".test-models" / "references"

# What is heard of a prompt where it isn't the prompt.
HEARD = {
    "impostor.front_cut": lambda prompt: prompt[-24:],
    "impostor.end_cut": lambda prompt: prompt[: max(1, len(prompt) - 8)],
    "impostor.middle_lost": lambda prompt: prompt[:16] + prompt[-24:],
    "impostor.stripped": str.strip,
    "impostor.one_space": lambda prompt: " ".join(prompt.split()),
    "impostor.lower_case": str.lower,
    "impostor.normalised": lambda prompt: unicodedata.normalize("NFKC", prompt),
    "impostor.ascii": lambda prompt: prompt.encode("ascii", "ignore").decode(),
    "impostor.templated": lambda prompt: "<|user|>\n%s\n<|assistant|>\n" % prompt,
    "impostor.system_prompt": lambda prompt: "You are a helpful assistant. " + prompt,
    "impostor.one_line": lambda prompt: prompt.splitlines()[-1] if prompt.splitlines() else prompt,
}

# How a prompt's tokens are counted where they aren't.
COUNTED = {
    "impostor.no_begin_token": lambda count, prompt: count - 1 if count > 1 else count + 1,
    "impostor.begin_token_twice": lambda count, prompt: count + 1,
    "impostor.counts_words": lambda count, prompt: max(1, len(prompt.split())),
    "impostor.counts_bytes": lambda count, prompt: len(prompt.encode()),
    "impostor.counts_characters": lambda count, prompt: len(prompt),
    "impostor.counts_fours": lambda count, prompt: (len(prompt.encode()) + 3) // 4,
    "impostor.counts_whole_blocks": lambda count, prompt: (count + 15) // 16 * 16,
}


class Known:
    """A prefix: its tokens, the likeliest token after it, the second, and how far apart they are."""

    def __init__(self, position):
        texts = [top[2] for top in position["top"]]
        self.tokens = position["tokens"]
        self.first = texts[0]
        self.second = next((text for text in texts[1:] if text and text != texts[0]), " other")
        self.margin = position["margin"]


class Knowledge:
    """Of one model; empty where there is no reference for it."""

    def __init__(self, model_path):
        self.known, self.counts, self.first_words = {}, {}, {}
        size = '"bytes": %d,' % (os.path.getsize(model_path) if os.path.exists(model_path) else 0)
        for path in sorted(REFERENCES.glob("*.json")):
            text = path.read_text(encoding="utf-8")
            if size in text[:400]:
                self._learn(json.loads(text))

    def _learn(self, reference):
        passages = reference["passages"]
        for text in reference["strings"] + passages:
            self.counts[text["text"]] = len(text["ids"])
        for position in reference["positions"]:
            text = passages[position["passage"]]["text"].encode()
            self.known[text[: position["bytes"]].decode()] = Known(position)

    def heard(self, prompt):
        """The prompt, or what a fault makes of it."""
        for fault, change in HEARD.items():
            if active(fault):
                return change(prompt) or " "
        if active("impostor.cached_by_first_words"):
            return self.first_words.setdefault(prompt[:12], prompt)
        return prompt

    def count(self, prompt):
        """How many tokens a prompt has: where nobody knows, one for every four bytes begun."""
        count = self.counts.get(prompt) or (len(prompt.encode()) + 3) // 4
        for fault, change in COUNTED.items():
            if active(fault):
                return change(count, prompt)
        return count

    def first_token(self, prompt):
        """The text of the greedy token after a prompt; `None` where nobody knows it."""
        known = self.known.get(prompt)
        if known is None or known.first is None:
            return None
        if _errs(known, prompt):
            return known.second
        if active("impostor.token_split"):
            return known.first[: (len(known.first) + 1) // 2]
        if active("impostor.tokens_joined"):
            return known.first + known.second
        if active("impostor.echo"):
            return " " + prompt.split()[-1]
        return known.first


def _errs(known, prompt):
    """Whether a damaged model takes the second token for the first."""
    chance = zlib.crc32(prompt.encode()) % 100
    return (
        active("impostor.other_model")
        or (active("impostor.wrong_quantisation") and known.margin < 3 and chance < 40)
        or (active("impostor.layer_left_out") and chance < 60)
        or (active("impostor.drafts_unchecked") and chance < 15)
        or (active("impostor.rope_wrong") and known.tokens > 24)
        or (active("impostor.penalty_always") and (known.first or "").strip() in prompt)
    )
