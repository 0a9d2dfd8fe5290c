"""What befalls a worker from outside at a stage of its life, where FAULTY_MISHAP=WHAT@STAGE asks for it.

WHAT is the name of a signal, `panic` (the exit of a program that gives up) or `memory` (an allocation that
can't be met).
"""

import os
import signal
import time

WHAT, _, STAGE = os.environ.get("FAULTY_MISHAP", "").partition("@")


def at(stage):
    """The worker is at this stage now."""
    if stage != STAGE:
        return
    if WHAT == "panic":
        os.write(2, b"thread 'engine' panicked at engine.rs:1: rehearsed\n")
        os._exit(101)
    if WHAT == "memory":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (1 << 20, resource.RLIM_INFINITY))
        try:
            bytearray(1 << 30)
        except MemoryError:
            os.write(2, b"memory allocation of 1073741824 bytes failed\n")
            os.abort()
    os.kill(os.getpid(), getattr(signal, WHAT))
    # One that is handled is handled a moment later.
    time.sleep(0.05)
