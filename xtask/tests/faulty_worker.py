#!/usr/bin/env python3
"""A fake inference worker that keeps the whole worker contract with canned text.

It takes the contract's command line, so a harness can use it as its worker. With WORKER_FAULT=<id> it
breaks exactly one promise; `--list-faults` prints every id as one JSON object a line. Standard library
only, Python 3.8 or newer. The parts are in the package `faulty_worker/` beside this file.

Knobs of the environment, for good and faulty alike:

    FAULTY_LOAD_MS        how long it loads (50)
    FAULTY_PREFILL_MS     prefill time of a short prompt; one more for every 16 prompt tokens (5)
    FAULTY_TOKEN_MS       time from token to token (2)
    FAULTY_SLOTS          generations that run side by side (2); --max-queue (16) more may wait
    FAULTY_ANSWER_TOKENS  where the end token comes; 0 goes on until max_tokens (0)
    FAULTY_LEAK_BYTES     memory that is kept for each inference (0)
    FAULTY_CACHE_BYTES    what that memory grows to (without end)
    FAULTY_LEAK_FILES     files that stay open for each inference (0)
    FAULTY_MISHAP         WHAT@STAGE: what befalls it, at which stage of its life; see `mishap.py`
    WORKER_API_TOKEN      where set, every request needs it

A prompt has one token for every four bytes; the context has --ctx-size (2048) of them. Greedy text is
one fixed text a prompt; sampled text depends on seed, prompt, temperature, top_p and top_k alone.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

# The package, not this file: Python looks for folders first.
from faulty_worker.worker import main  # noqa: E402

if __name__ == "__main__":
    main(sys.argv[1:])
