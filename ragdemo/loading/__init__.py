"""Bytes and a name -> Document, whatever the format: what comes in through the door.

The format is told from the bytes; the suffix only decides between kinds of text, and a suffix
that contradicts the bytes is an error, not a guess. Nothing is fetched and nothing is written to
disk. PDF, DOCX and HTML are parsed in a limited child process.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path, PurePath

from ragdemo.errors import DocumentError, LimitReached, PasswordNeeded, RagdemoError
from ragdemo.settings import Limits
from ragdemo.text import clean
from ragdemo.types import Document, FileReport

__all__ = ["SUFFIXES", "load", "load_many", "read_folder", "safe_name"]

Progress = Callable[[int, int], None]  # pages done, pages in all

_KINDS = {
    ".pdf": "PDF", ".docx": "DOCX", ".html": "HTML", ".htm": "HTML", ".csv": "CSV",
    ".tsv": "CSV", ".md": "Markdown", ".markdown": "Markdown", ".txt": "text",
}  # fmt: skip
SUFFIXES = tuple(_KINDS)

# What the first bytes say. Only PDF and ZIP lead to a reader, the others make a clear sentence.
_MAGIC = (
    (b"PK\x03\x04", "ZIP"), (b"PK\x05\x06", "ZIP"),
    (b"\x89PNG", "PNG picture"), (b"\xff\xd8\xff", "JPEG picture"), (b"GIF8", "GIF picture"),
    (b"II*\x00", "TIFF picture"), (b"MM\x00*", "TIFF picture"), (b"RIFF", "RIFF file"),
    (b"\xd0\xcf\x11\xe0", "old Office file (.doc, .xls, .ppt)"), (b"{\\rtf", "RTF file"),
    (b"\x1f\x8b", "gzip archive"), (b"7z\xbc\xaf", "7z archive"), (b"Rar!", "RAR archive"),
    (b"\x7fELF", "program"), (b"MZ\x90", "program"), (b"SQLite format 3", "SQLite database"),
)  # fmt: skip


def load(
    data: bytes,
    name: str,
    *,
    limits: Limits | None = None,
    password: str | None = None,
    progress: Progress | None = None,
) -> Document:
    """Read one file. `progress(pages done, pages in all)` is called as it goes.

    What was lost on the way is in `Document.report`. Raises DocumentError for what cannot be read,
    PasswordNeeded, and LimitReached when a limit struck before anything was read.
    """
    limits = limits or Limits()
    name = safe_name(name)
    began = time.monotonic()
    if not data:
        raise DocumentError(f"{name} is empty. Check the file and load it again.")
    if len(data) > limits.file_bytes:
        raise LimitReached(
            f"{name} has {_mib(len(data))}; a file may have {_mib(limits.file_bytes)}. Split it or "
            "shrink its pictures."
        )
    kind = _kind(data, name)
    # imported when needed: the child that parses one format passes through this module too
    if kind == "PDF":
        from ragdemo.loading.pdf import load_pdf

        document = load_pdf(data, name, limits=limits, password=password, progress=progress)
    elif kind == "DOCX":
        from ragdemo.loading.docx import load_docx

        document = load_docx(data, name, limits=limits, progress=progress)
    elif kind == "HTML":
        from ragdemo.loading.html import load_html

        document = load_html(data, name, limits=limits, progress=progress)
    elif kind == "CSV":
        from ragdemo.loading.csv import load_csv

        document = load_csv(data, name, limits=limits, progress=progress)
    else:
        from ragdemo.loading.plain import load_plain

        document = load_plain(
            data, name, limits=limits, markdown=kind == "Markdown", progress=progress
        )
    report = document.report
    if not document.text and not report.scanned_pages:
        report = replace(report, notes=(*report.notes, "No text was found in this file."))
    return replace(document, report=replace(report, seconds=time.monotonic() - began))


def load_many(
    files: Iterable[tuple[str, bytes]],
    *,
    limits: Limits | None = None,
    passwords: dict[str, str] | None = None,
    known: Iterable[Document] = (),
    progress: Callable[[str, int, int], None] | None = None,
) -> Iterator[Document | FileReport]:
    """Read files one by one: a Document for each that gave one, else a FileReport that says why.

    `known` are the documents the visitor has already: a file with the content of one of them, or
    of an earlier file, is reported as its duplicate, and all count towards the total limits.
    `passwords` go by file name, `progress(name, pages done, pages in all)` is called as it goes.
    One bad file never raises and never stops the others.
    """
    limits = limits or Limits()
    seen: dict[str, str] = {}
    total = 0
    for document in known:
        seen[document.id] = document.name
        total += document.report.size if document.report else 0
    for given, data in files:
        name = safe_name(given)
        content = hashlib.sha256(data).hexdigest()
        if content in seen:
            yield FileReport(name, len(data), duplicate_of=seen[content])
            continue
        left_out = None
        if len(seen) >= limits.files:
            left_out = f"at most {limits.files} files may be loaded"
        elif total + len(data) > limits.total_bytes:
            left_out = f"all files together may have {_mib(limits.total_bytes)}"
        if left_out:
            sentence = f"{name} was left out: {left_out}. Remove some to make room."
            yield FileReport(name, len(data), error=sentence, hit_limit=sentence)
            continue
        began = time.monotonic()

        def report_pages(done: int, pages: int, name: str = name) -> None:
            if progress is not None:
                progress(name, done, pages)

        try:
            document = load(
                data,
                name,
                limits=limits,
                password=(passwords or {}).get(given),
                progress=report_pages,
            )
        except RagdemoError as error:
            yield FileReport(
                name,
                len(data),
                error=str(error),
                needs_password=isinstance(error, PasswordNeeded),
                hit_limit=str(error) if isinstance(error, LimitReached) else None,
                seconds=time.monotonic() - began,
            )
            continue
        seen[content] = name
        total += len(data)
        yield document


def read_folder(path: str | Path) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of the supported files at the top of a folder, by name."""
    for file in sorted(Path(path).iterdir()):
        if file.suffix.lower() in _KINDS and file.is_file():
            yield file.name, file.read_bytes()


def safe_name(name: str) -> str:
    """The last part of a file name, without what could break a sentence or a screen."""
    last = PurePath(name.replace("\\", "/")).name
    text = " ".join(clean(last)[0].split()) or "file"
    if len(text) > 120:
        suffix = PurePath(text).suffix[:12]
        text = f"{text[: 119 - len(suffix)]}…{suffix}"
    return text


def _kind(data: bytes, name: str) -> str:
    suffix = PurePath(name).suffix.lower()
    wanted = _KINDS.get(suffix)
    found = next((kind for magic, kind in _MAGIC if data.startswith(magic)), None)
    if (b"%PDF-" in data[:1024] and wanted in ("PDF", None)) or data.startswith(b"%PDF-"):
        found = "PDF"
    if wanted is None:
        if found == "PDF":
            return "PDF"
        what = f"a {found}" if found else "not of a kind that can be read"
        raise DocumentError(f"{name} is {what}. Load one of: {', '.join(_KINDS)}.")
    if wanted == "DOCX":
        if found == "ZIP":
            return "DOCX"
        if found is not None and found.startswith("old Office"):
            raise DocumentError(
                f"{name} is an old or encrypted Office file. Open it in Word and save it as .docx "
                "without a password."
            )
    elif wanted == "PDF":
        if found == "PDF":
            return "PDF"
    elif found is None:
        return wanted
    what = f"its content is a {found}" if found else f"its content is no {wanted}"
    raise DocumentError(
        f"{name} is named {suffix} but {what}. Give it its right name or export it as {suffix}."
    )


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"
