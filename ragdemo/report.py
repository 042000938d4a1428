"""A Comparison as a file: JSON that opens again to the same screen, and HTML that stands alone.

Knows nothing of Streamlit. A JSON file may come from anybody: its size, its shape and every offset
are checked before anything is shown, and all that fails is one `DocumentError`. The HTML has no
script, fetches nothing (its policy forbids it) and everything in it is escaped.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from html import escape
from typing import Any

from ragdemo.errors import DocumentError
from ragdemo.facts import loads, value
from ragdemo.settings import MIB
from ragdemo.text import clean
from ragdemo.types import Answer, Comparison, Hit, Marginal, Span, Support

FORMAT = "ragdemo-comparison-1"
MOST_BYTES = 5 * MIB
LATER = {Comparison: {"marginal"}}  # fields that a file saved before them lacks


def to_json(comparison: Comparison) -> str:
    """The whole comparison; `from_json` gives it back equal."""
    return json.dumps(
        {"format": FORMAT, "comparison": asdict(comparison)}, ensure_ascii=False, indent=1
    )


def from_json(data: bytes | str) -> Comparison:
    """What `to_json` wrote. Raises DocumentError for anything else."""
    if len(data) > MOST_BYTES:
        raise DocumentError(
            f"This file is larger than the {MOST_BYTES // MIB} MiB a saved comparison may have."
        )
    try:
        facts = loads(data)
        if facts["format"] != FORMAT:
            raise ValueError("unknown format")
        comparison = value(Comparison, facts["comparison"], later=LATER)
        _check(comparison)
    except Exception as problem:  # any broken outside file ends in one sentence
        raise DocumentError(
            "This file is not a comparison saved by ragdemo, or it was changed "
            f"({type(problem).__name__}). Save it again as JSON and open the new file."
        ) from problem
    return comparison


def _check(c: Comparison) -> None:
    """Offsets lie inside their texts, citations name passages."""
    for hit in (*c.hits, *c.grounded.prompt.used, *c.baseline.prompt.used):
        chunk = hit.chunk
        if not 0 <= chunk.end - chunk.start == len(chunk.text):
            raise ValueError("a passage does not fit its place")
    for answer, held in ((c.grounded, c.support), (c.baseline, c.baseline_support)):
        _inside(answer.text, held)
        for s in held:
            _inside(answer.text, s.unsupported)
            if s.citation is not None:
                if not 1 <= s.citation <= len(c.hits):
                    raise ValueError("a citation names no passage")
                if s.evidence:
                    _inside(c.hits[s.citation - 1].chunk.text, [s.evidence])
        _inside(answer.text, answer.copied)
    if c.marginal:
        _check_marginal(c.marginal, len(c.hits))


def _check_marginal(m: Marginal, passages: int) -> None:
    rows = len(m.candidates)
    if not rows == len(m.written_from) == len(m.log_likelihoods) or not rows:
        raise ValueError("every candidate needs its row")
    if any(len(row) != passages for row in (m.prior, *m.log_likelihoods)):
        raise ValueError("every passage needs its column")
    if any(not 0 <= column < passages for row in m.written_from for column in row):
        raise ValueError("a candidate names no passage")
    if any(not 0 <= p <= 1 for p in m.prior) or not max(m.prior) > 0:
        raise ValueError("the prior is no probability")
    if any(value > 1e-3 for row in m.log_likelihoods for value in row):  # rounding, no more
        raise ValueError("a likelihood is above 1")


def _inside(text: str, spans: Iterable[Any]) -> None:
    if any(not 0 <= s.start <= s.end <= len(text) for s in spans):
        raise ValueError("an offset lies outside its text")


# -- HTML

_STYLE = """
body{font:16px/1.55 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;
color:#1b2430;background:#fff}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(18rem,1fr));gap:1rem}
.box{border:1px solid #d5dce5;border-radius:.5rem;padding:1rem;overflow-wrap:anywhere}
.text{white-space:pre-wrap}
.quiet{color:#5b6675;font-size:.875rem}
.cite{background:#dff3e4;border-radius:.6em;padding:0 .4em;font-size:.8em;text-decoration:none;
color:inherit}
.weak{text-decoration:underline wavy #c77700 1px}
.loose{background:#fbdcdc;font-weight:600}
.support{background:#dff3e4}
.warn{border-left:4px solid #c77700;padding:.3rem .8rem;background:#fff6e5}
pre{white-space:pre-wrap;background:#f1f4f8;padding:.8rem;border-radius:.5rem;font-size:.8rem;
overflow-wrap:anywhere}
table{border-collapse:collapse}td,th{border:1px solid #d5dce5;padding:.2rem .6rem;text-align:left}
@media(prefers-color-scheme:dark){body{color:#e8edf3;background:#12171e}
.box,td,th{border-color:#34404f}.quiet{color:#a5b0bd}pre{background:#1c2430}
.cite,.support{background:#1d4a2b}.loose{background:#5c2323}.warn{background:#3a2d12}}
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def to_html(comparison: Comparison) -> str:
    """One page to hand in, print or mail: question, answers, passages, prompts, settings."""
    c = comparison
    parts = [
        f"<h1>{escaped(c.question)}</h1>",
        f"<p class=warn>{escaped(c.weak)}</p>" if c.weak else "",
        "<div class=pair>",
        _answer("With retrieval", c.grounded, c.support),
        _answer("Without retrieval", c.baseline, c.baseline_support),
        "</div><p class=quiet>A number cites the passage that bears the sentence out; wavy: under "
        "half of its words stand in any passage; red: a number or name that stands in none.</p>",
        "<h2>Passages</h2>",
        *(_passage(n, hit, c) for n, hit in enumerate(c.hits, start=1)),
        _candidates(c.marginal) if c.marginal else "",
        "<h2>Prompts</h2>",
        f"<h3>With retrieval</h3><pre>{escaped(c.grounded.prompt.text)}</pre>",
        f"<h3>Without retrieval</h3><pre>{escaped(c.baseline.prompt.text)}</pre>",
        "<h2>How it was made</h2>",
        facts_table("Seconds", {k: f"{v:.3f}" for k, v in c.seconds.items()}),
        facts_table("Settings", c.settings),
        facts_table("Versions", c.versions),
        facts_table("Files (SHA-256)", c.files),
    ]
    return standalone(c.question[:80], parts)


def standalone(title: str, parts: Iterable[str]) -> str:
    """A page of ready HTML parts that fetches nothing and runs nothing."""
    head = [
        "<!doctype html><html lang=en><head><meta charset=utf-8>",
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name=viewport content="width=device-width,initial-scale=1">',
        f"<title>ragdemo: {escaped(title)}</title><style>{_STYLE}</style></head><body>",
    ]
    return "\n".join(part for part in (*head, *parts, "</body></html>") if part)


def escaped(text: object) -> str:
    """Anybody's text, for between tags and inside quoted attributes."""
    return escape(clean(str(text))[0])


def _answer(title: str, answer: Answer, held: Sequence[Support]) -> str:
    body, at = "", 0
    for s in held:
        body += escaped(answer.text[at : s.start])
        inner, here = "", s.start
        for loose in s.unsupported:
            inner += escaped(answer.text[here : loose.start])
            inner += f"<span class=loose>{escaped(answer.text[loose.start : loose.end])}</span>"
            here = loose.end
        inner += escaped(answer.text[here : s.end])
        body += inner if s.citation else f"<span class=weak>{inner}</span>"
        if s.citation:
            body += f' <a class=cite href="#passage-{s.citation}">{s.citation}</a>'
        at = s.end
    body += escaped(answer.text[at:])
    ending = {"length": " · cut at the longest answer allowed", "cancelled": " · stopped"}
    return (
        f"<div class=box><h2>{title}</h2><div class=text>{body or '–'}</div><p class=quiet>"
        f"{escaped(answer.model)} · {answer.tokens} tokens{ending.get(answer.finish, '')}</p></div>"
    )


def _passage(number: int, hit: Hit, c: Comparison) -> str:
    chunk = hit.chunk
    evidence = [s.evidence for s in c.support if s.citation == number and s.evidence]
    pages = ", ".join(map(str, chunk.pages))
    floor = "" if c.floor is None else f" (nonsense reaches {c.floor:.2f})"
    return (
        f'<div class=box id="passage-{number}">'
        f"<strong>{number} · {escaped(chunk.document_name)}</strong>"
        f"<p class=quiet>page {pages} · {escaped(chunk.heading)} · {escaped(hit.retriever)} "
        f"{hit.score:.3f}{floor}</p><div class=text>{_marked(chunk.text, evidence)}</div></div>"
    )


def _marked(text: str, spans: Sequence[Span]) -> str:
    body, at = "", 0
    for span in sorted(spans, key=lambda s: (s.start, s.end)):
        if span.end <= at:
            continue
        start = max(at, span.start)
        body += (
            escaped(text[at:start])
            + f"<span class=support>{escaped(text[start : span.end])}</span>"
        )
        at = span.end
    return body + escaped(text[at:])


def _candidates(m: Marginal) -> str:
    """Every candidate's log-likelihood under every passage, and what they sum to."""
    numbers = range(1, len(m.prior) + 1)
    head = "".join(f"<th>passage {n}</th>" for n in numbers)
    known = "".join(f"<td>{p:.3f}</td>" for p in m.prior)
    rows = ""
    for number, text in enumerate(m.candidates):
        cells = "".join(f"<td>{value:.2f}</td>" for value in m.log_likelihoods[number])
        mark = " class=support" if number == m.winner else ""
        rows += (
            f"<tr{mark}><td>{escaped(text)}</td>{cells}<td>{m.log_marginals[number]:.2f}</td></tr>"
        )
    return (
        "<h2>Candidates</h2><p class=quiet>log p(candidate | question, passage); at the right the "
        f"log of their sum weighted by p(passage | question), the highest of which won.</p><table>"
        f"<tr><th></th>{head}<th>sum</th></tr><tr><td>p(passage | question)</td>{known}<td></td>"
        f"</tr>{rows}</table>"
    )


def facts_table(title: str, rows: Mapping[str, object]) -> str:
    """Names and values under a heading; "" where there are none."""
    if not rows:
        return ""
    lines = "".join(f"<tr><th>{escaped(k)}</th><td>{escaped(v)}</td></tr>" for k, v in rows.items())
    return f"<h3>{escaped(title)}</h3><table>{lines}</table>"
