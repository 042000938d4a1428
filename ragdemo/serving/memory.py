"""Memory that a visitor leaves behind goes back to the system.

glibc keeps what is freed in the arenas of the threads that took it, for ever if something small
lies above it: after a class of thirty the process stayed as large as with them.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
from functools import cache

DELAY = 2.0  # seconds: whoever leaves is still held by the script that ends
_pending = threading.Lock()


def give_back_soon() -> None:
    """Once for all who leave within `DELAY`."""
    if _pending.acquire(blocking=False):
        timer = threading.Timer(DELAY, _give_back)
        timer.daemon = True
        timer.start()


def _give_back() -> None:
    _pending.release()
    gc.collect()
    if trim := _trim():
        trim(0)


@cache
def _trim():
    """malloc_trim(3) where the C library has it, else None."""
    if sys.platform != "linux":
        return None
    return getattr(ctypes.CDLL(None), "malloc_trim", None)
