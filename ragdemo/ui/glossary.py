"""The field's terms, one click away on every page."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path

import streamlit as st

FILE = Path(__file__).with_name("glossary.toml")


@cache
def terms() -> dict[str, dict[str, str]]:
    """Part -> term -> meaning."""
    parts = tomllib.loads(FILE.read_text("utf-8"))["part"]
    return {part["title"]: dict(part["terms"]) for part in parts}


def button() -> None:
    """A popover: it opens in the browser, so that an answer being written goes on."""
    with st.popover("Glossary", icon=":material/menu_book:", key="glossary"):
        for title, own in terms().items():
            lines = "\n".join(f"- **{term}**: {meaning}" for term, meaning in own.items())
            st.markdown(f"**{title}**\n\n{lines}")
