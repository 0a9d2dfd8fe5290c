"""A GPU that isn't there: the worker says that it computes on it, and `fake_gpu/nvidia-smi` believes it.

Only where FAKE_GPU_DIR names a folder; without it this worker has no backend but the cpu.
"""

import os

from . import log
from .faults import active

NAME = "Fake GPU 9000"
MEMORY_MIB = 512


def folder():
    """Where whoever uses the device says so; None where there is no such device."""
    return os.environ.get("FAKE_GPU_DIR")


def take(config):
    """Takes memory on the device, if it is to be used."""
    if config.backend != "cuda" or not folder():
        return
    if not active("device.never_touched"):
        kept = " kept" if active("device.kept") else ""
        with open(_mine(), "w") as file:
            file.write("%d%s" % (MEMORY_MIB, kept))
    name = "a device" if active("device.unnamed") else NAME
    log.info("Computing on cuda 0 (%s)" % name)


def release():
    """Gives the memory back."""
    if folder() and os.path.exists(_mine()) and not active("device.kept"):
        os.remove(_mine())


def _mine():
    return os.path.join(folder(), str(os.getpid()))
