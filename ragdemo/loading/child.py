"""Runs one reading task in a child process that cannot take the application down with it.

The file goes in on standard input, JSON lines come out, one a page, so that whatever was read
before a limit struck is kept. The child gets no environment (an API key in ours is not its
business), lowers its own priority and limits its own memory and processor time; this side adds
the wall clock and a bound on what it may print. Knows nothing of file formats.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ragdemo.errors import DocumentError, LimitReached, PasswordNeeded
from ragdemo.settings import Limits

_WORKER = Path(__file__).with_name("worker.py")
# JSON around each line of text (position, size) is at most about this many bytes a character
_BYTES_PER_CHARACTER = 40
_FLOOR_BYTES = 64 * 1024 * 1024  # a rendered page in base64 stays well under this
_EXCEEDED_CPU = -24  # killed by SIGXCPU, which Windows' signal module does not know

TIME, MEMORY, CRASH, OUTPUT = "time", "memory", "crash", "output"
AT_ONCE = 2  # children of all visitors: each may take the memory and the processor time allowed
_slots = threading.BoundedSemaphore(AT_ONCE)


def run(
    task: str, options: Mapping[str, object], data: bytes, limits: Limits
) -> Iterator[dict[str, Any]]:
    """Messages of the child in order. The last one is `{"end": None | "time" | ...}`.

    Raises PasswordNeeded or DocumentError when the child says so; those texts are ours, made in
    the worker to be read by a visitor. Closing the iterator kills the child. No more than `AT_ONCE`
    run; the others wait, and their time is counted from their beginning.
    """
    with _slots:
        yield from _run(task, options, data, limits)


def _run(
    task: str, options: Mapping[str, object], data: bytes, limits: Limits
) -> Iterator[dict[str, Any]]:
    header = dict(
        options, task=task, memory=limits.parse_memory, cpu_seconds=limits.parse_cpu_seconds
    )
    process = subprocess.Popen(
        [sys.executable, "-I", "-B", "-X", "utf8", str(_WORKER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={k: v for k, v in os.environ.items() if k in ("SYSTEMROOT", "LD_LIBRARY_PATH")},
    )
    deadline = time.monotonic() + limits.parse_seconds
    lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    allowed = max(_FLOOR_BYTES, limits.characters * _BYTES_PER_CHARACTER)
    threads = [
        threading.Thread(target=_feed, args=(process, header, data), daemon=True),
        threading.Thread(target=_drain, args=(process, lines, allowed), daemon=True),
    ]
    for thread in threads:
        thread.start()
    try:
        yield from _messages(process, lines, deadline)
    finally:
        process.kill()
        process.wait()
        for thread in threads:
            thread.join()
        # the feeder's thread may have left a half-written buffer behind
        for stream in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                stream.close()


def _messages(
    process: subprocess.Popen[bytes], lines: queue.SimpleQueue[bytes | None], deadline: float
) -> Iterator[dict[str, Any]]:
    while True:
        try:
            line = lines.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            yield {"end": TIME}
            return
        if line is None:
            break
        if not line.endswith(b"\n"):  # cut off in the middle by its end or by the output bound
            continue
        message = json.loads(line)
        if "password" in message:
            raise PasswordNeeded(message["password"])
        if "error" in message:
            raise DocumentError(message["error"])
        yield message
        if "end" in message:
            return
    try:
        code = process.wait(timeout=max(0.1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        yield {"end": OUTPUT}
        return
    yield {"end": TIME if code == _EXCEEDED_CPU else CRASH}


def _feed(process: subprocess.Popen[bytes], header: Mapping[str, object], data: bytes) -> None:
    try:
        process.stdin.write(json.dumps(header).encode() + b"\n")
        process.stdin.write(data)
        process.stdin.close()
    except OSError:
        pass  # the child ended early; its exit code and its messages tell why


def _drain(
    process: subprocess.Popen[bytes], lines: queue.SimpleQueue[bytes | None], allowed: int
) -> None:
    while allowed > 0 and (line := process.stdout.readline(allowed)):
        allowed -= len(line)
        lines.put(line)
    lines.put(None)


def ended(reason: str | None, name: str, read: str, limits: Limits) -> str | None:
    """The sentence for the report: what stopped the reading, what was kept, what to do."""
    if reason is None:
        return None
    cause = {
        TIME: f"Reading {name} took longer than the {limits.parse_seconds:g} seconds allowed",
        MEMORY: f"Reading {name} needed more than the "
        f"{limits.parse_memory // 2**20} MiB of memory allowed",
        CRASH: f"The content of {name} made the reader stop",
        OUTPUT: f"{name} holds more text than the reader may hand over",
    }[reason]
    advice = "Split the file or save it again from the program it was made with."
    return f"{cause}; {read}. {advice}"


def nothing_read(reason: str, name: str, limits: Limits) -> LimitReached:
    """The error for a child that ended before it delivered anything."""
    return LimitReached(ended(reason, name, "nothing was read", limits) or "")
