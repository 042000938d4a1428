"""The child's entry point, run as `python -I worker.py`: limits first, then the file.

In: one JSON line of options, then the bytes of the file, on standard input.
Out: JSON lines on standard output. Never imports torch or streamlit; the libraries a format
needs are imported after the limits stand.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Task = Callable[[bytes, dict[str, Any]], Iterator[dict[str, Any]]]


def _pdf() -> Task:
    from ragdemo.loading.pdf_worker import read

    return read


def _page_image() -> Task:
    from ragdemo.loading.pdf_render import render

    return render


def _docx() -> Task:
    from ragdemo.loading.docx import parse

    return parse


def _html() -> Task:
    from ragdemo.loading.html import parse

    return parse


TASKS: dict[str, Callable[[], Task]] = {
    "pdf": _pdf,
    "page image": _page_image,
    "docx": _docx,
    "html": _html,
}


def _limit_self(memory: int, cpu_seconds: int) -> None:
    """Bound this process: address space in bytes, processor time in seconds, no files written."""
    if sys.platform == "win32":
        return  # no such limits there; the parent's wall clock still holds
    import resource

    os.nice(10)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 1))
    if sys.platform == "linux":  # macOS refuses to lower the address space
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def _say(message: dict[str, Any]) -> None:
    sys.stdout.buffer.write(json.dumps(message).encode() + b"\n")
    sys.stdout.buffer.flush()


def main() -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # -I leaves our folder out
    options = json.loads(sys.stdin.buffer.readline())
    _limit_self(options["memory"], options["cpu_seconds"])
    from ragdemo.errors import DocumentError, PasswordNeeded

    try:
        task = TASKS[options["task"]]()
        for message in task(sys.stdin.buffer.read(), options):
            _say(message)
        _say({"end": None})
    except PasswordNeeded as error:
        _say({"password": str(error)})
    except DocumentError as error:
        _say({"error": str(error)})
    except (MemoryError, RecursionError):
        _say({"end": "memory"})
    except Exception as error:
        # The outermost frame of a process: whatever a broken file sets off ends here, and the
        # parent turns it into a sentence. The type is enough for a bug report, the text is not
        # shown, since it may hold the document's own words.
        _say({"end": "crash", "cause": type(error).__name__})


if __name__ == "__main__":
    main()
