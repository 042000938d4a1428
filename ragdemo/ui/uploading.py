"""Taking in a visitor's files: progress by pages and passages, and what happened to each file."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from ragdemo.errors import RagdemoError
from ragdemo.loading import SUFFIXES, load_many
from ragdemo.settings import MIB
from ragdemo.types import Document, FileReport
from ragdemo.ui import drawn
from ragdemo.ui.state import Visitor


def uploader(me: Visitor) -> None:
    """Read and index what is dropped in. Files read are told by Streamlit's file id, so that a
    click in the middle loses nothing and reads nothing twice."""
    limits = me.limits
    files = st.file_uploader(
        "Add your own documents",
        type=[suffix.lstrip(".") for suffix in SUFFIXES],
        accept_multiple_files=True,
        key=f"files-{me.uploads}",
        max_upload_size=limits.file_bytes // MIB,
        help=f"Up to {limits.files} files of at most {limits.file_bytes // MIB} MB. They stay in "
        "this visit's memory and are gone when you leave.",
    )
    fresh = [file for file in files or () if file.file_id not in me.taken]
    if not fresh:
        return
    if len(fresh) == len(files):  # a new lot: the reports of the one before have been read
        me.reports = []
    place = st.empty()
    with place.container(border=True):
        for number, file in enumerate(fresh, start=1):
            with me.turn():
                report = take(me, file.name, file.getvalue(), f"{number} of {len(fresh)}")
            me.reports.insert(0, report)
            me.taken.add(file.file_id)
    place.empty()
    me.uploads += 1  # an empty uploader: the files' bytes are the corpus's now
    st.rerun()


def take(me: Visitor, name: str, data: bytes, which: str, password: str = "") -> FileReport:
    """Read, cut, embed and index one file, showing how far it is; its report, whatever happens."""
    st.text(name)
    bar = st.progress(0.0, f"File {which}: opening")

    def pages(_: str, done: int, total: int) -> None:
        bar.progress(0.4 * done / max(1, total), f"File {which}: page {done} of {total}")

    def passages(done: int, total: int) -> None:
        bar.progress(
            0.4 + 0.6 * done / max(1, total), f"File {which}: passage {done} of {total} embedded"
        )

    found = next(
        load_many(
            [(name, data)],
            limits=me.limits,
            passwords={name: password} if password else None,
            known=list(me.corpus.documents.values()),
            progress=pages,
        )
    )
    if not isinstance(found, Document):
        if found.needs_password:
            me.locked[name] = data
        return found
    me.locked.pop(name, None)
    document, note = _named_apart(me, found)
    report = document.report or FileReport(name, len(data), pages=len(document.pages))
    try:
        me.corpus.add(document, data, password=password, progress=passages)
    except RagdemoError as problem:
        return replace(report, error=str(problem))
    return replace(report, notes=(*report.notes, note)) if note else report


def _named_apart(me: Visitor, document: Document) -> tuple[Document, str]:
    """A document whose name is taken by another content gets a number behind its name."""
    taken = {held.name for held in me.corpus.documents.values()}
    if document.name not in taken:
        return document, ""
    stem, dot, suffix = document.name.rpartition(".")
    stem, suffix = (stem, dot + suffix) if dot else (document.name, "")
    number = next(n for n in range(2, len(taken) + 3) if f"{stem} ({n}){suffix}" not in taken)
    name = f"{stem} ({number}){suffix}"
    return replace(
        document, name=name
    ), f"A file of this name was there already; this one is {name}."


def reports(me: Visitor) -> None:
    """What happened to each file of the last upload."""
    if not me.reports:
        return
    with st.container(border=True):
        for number, report in enumerate(list(me.reports)):
            _report(me, number, report)
        if st.button("Hide", key="hide-reports", icon=":material/visibility_off:"):
            me.reports = []
            me.locked.clear()
            st.rerun()


def _report(me: Visitor, number: int, report: FileReport) -> None:
    icon = ":red[:material/error:]" if report.error else ":green[:material/check_circle:]"
    if report.duplicate_of or (not report.error and _losses(report)):
        icon = ":orange[:material/warning:]"
    with st.container(horizontal=True, vertical_alignment="center", gap="small", wrap=False):
        st.markdown(icon, width="content")
        drawn.text(report.name, look="strong")
    for line in _lines(report):
        drawn.text(line, look="small")
    if report.needs_password and report.name in me.locked:
        with st.form(f"password-{number}", border=False):
            word = st.text_input("Password of this file", type="password", autocomplete="off")
            if st.form_submit_button("Open it", icon=":material/lock_open:") and word:
                me.reports[number] = take(
                    me, report.name, me.locked[report.name], "1 of 1", password=word
                )
                st.rerun()


def _losses(report: FileReport) -> bool:
    return bool(
        report.empty_pages or report.scanned_pages or report.hit_limit or report.repaired
        or report.dropped_characters or any("idden" in note for note in report.notes)
    )  # fmt: skip


def _lines(report: FileReport) -> list[str]:
    """The report in sentences; every loss has one."""
    if report.duplicate_of:
        return [f"Left out: its content is that of {report.duplicate_of}, which is there already."]
    if report.error:
        return [report.error]
    pages = "1 page" if report.pages == 1 else f"{report.pages} pages"
    lines = [f"{pages} read in {report.seconds:.1f} s, {_size(report.size)}."]
    if report.empty_pages:
        lines.append(f"Without text: {_pages(report.empty_pages)}.")
    if report.scanned_pages and not any("Pictures" in note for note in report.notes):
        lines.append(f"Scans, which hold no text to search: {_pages(report.scanned_pages)}.")
    if report.dropped_characters:
        lines.append(f"{report.dropped_characters:,} control or hidden characters were taken out.")
    if report.hit_limit:
        lines.append(report.hit_limit)
    return [*lines, *report.notes]


def _pages(numbers: tuple[int, ...]) -> str:
    shown = ", ".join(map(str, numbers[:12])) + (", …" if len(numbers) > 12 else "")
    return f"page {shown}" if len(numbers) == 1 else f"pages {shown}"


def _size(count: int) -> str:
    return f"{count / MIB:.1f} MB" if count >= MIB else f"{max(1, count // 1024)} kB"
