"""A finished run as files: HTML to hand in, CSV for a spreadsheet, JSON for a program, Markdown for
a README. Each carries its signature: what two runs must share for their figures to be compared.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from ragdemo.corpus import Corpus
from ragdemo.evaluation.arms import Arm
from ragdemo.evaluation.bootstrap import LEVEL, RESAMPLES, Interval, Paired
from ragdemo.evaluation.faults import FAULTS, Fault, faults
from ragdemo.evaluation.metrics import COMPUTED, METRICS
from ragdemo.evaluation.questions import Question
from ragdemo.evaluation.run import Result, Standing
from ragdemo.evaluation.summary import Line, summarise
from ragdemo.pipeline import versions
from ragdemo.report import escaped, facts_table, standalone
from ragdemo.types import Decoding

FORMAT = "ragdemo-evaluation-1"


@dataclass(frozen=True, slots=True)
class Record:
    """A run, summed up and signed."""

    title: str
    asked: tuple[Question, ...]
    arms: tuple[Arm, ...]
    results: tuple[Result, ...]
    lines: tuple[Line, ...]
    faults: tuple[Fault, ...]
    problems: Mapping[str, str]  # arm -> why it gave up
    signature: Mapping[str, str]


def signature(
    asked: Sequence[Question],
    decoding: Decoding,
    index: str,
    files: Mapping[str, str],
    encoder: str,
    writers: Sequence[str],
) -> dict[str, str]:
    """What made the figures, a line each. `files`: name -> SHA-256."""
    rows = json.dumps([asdict(q) for q in asked], sort_keys=True).encode()
    how = asdict(decoding)
    return {
        "questions": f"{len(asked)}, SHA-256 {hashlib.sha256(rows).hexdigest()}",
        "intervals": f"{LEVEL:.0%} BCa bootstrap of the mean, {RESAMPLES:,} resamples, seed 0",
        "p": "paired randomisation, two-sided, not corrected for the number of metrics",
        "BLEU": "sentence: 13a, exp, effective order; corpus: 13a, exp (as sacrebleu's defaults)",
        "ROUGE": "F1, not stemmed (as rouge-score's defaults)",
        "encoder": encoder,
        "generators": ", ".join(dict.fromkeys(writers)),
        "decoding": ", ".join(f"{name} {how[name]}" for name in how if how["sample"] or name in
                              ("max_tokens", "sample")),
        "index": index,
        **{f"version of {name}": number for name, number in versions().items()},
        **{f"file {name}": f"SHA-256 {digest}" for name, digest in files.items()},
    }  # fmt: skip


def finished(
    title: str,
    asked: Sequence[Question],
    arms: Sequence[Arm],
    corpus: Corpus,
    decoding: Decoding,
    standing: Standing,
) -> Record:
    """A run summed up, sorted and signed."""
    results = standing.results
    return Record(
        title=title,
        asked=tuple(asked),
        arms=tuple(arms),
        results=results,
        lines=tuple(summarise(asked, results, [arm.name for arm in arms])),
        faults=tuple(faults(asked, results, corpus)),
        problems=standing.problems,
        signature=signature(
            asked, decoding, corpus.fingerprint, corpus.files, corpus.encoder.name,
            [arm.generator for arm in arms],
        ),
    )  # fmt: skip


# -- figures as text


def mean(found: Interval | None) -> str:
    """ "0.812 (0.743–0.871)", or "" where nothing was measured."""
    if found is None or math.isnan(found.mean):
        return ""
    return f"{found.mean:.3f} ({found.low:.3f}–{found.high:.3f})"


def difference(found: Paired | None) -> str:
    """ "+0.512 (+0.423 to +0.601)"."""
    if found is None or math.isnan(found.difference):
        return ""
    return f"{found.difference:+.3f} ({found.low:+.3f} to {found.high:+.3f})"


def p_value(found: Paired | None) -> str:
    if found is None or math.isnan(found.p):
        return ""
    return f"{found.p:.3f}" if found.p >= 0.001 else "<0.001"


def table(lines: Sequence[Line]) -> list[list[str]]:
    """A row a metric that some arm has, after a row of heads; differences are to the first arm."""
    first, *others = lines
    heads = ["metric", "questions", *(line.arm for line in lines)]
    for line in others:
        heads += [f"{line.arm} less {first.arm}", "p"]
    rows = [heads]
    for key in COMPUTED:
        means = [line.means.get(key) for line in lines]
        if not any(means):
            continue
        row = [METRICS[key].title, str(max(m.n for m in means if m)), *map(mean, means)]
        for line in others:
            row += [difference(line.against.get(key)), p_value(line.against.get(key))]
        rows.append(row)
    whole = ["" if line.corpus_bleu is None else f"{line.corpus_bleu:.3f}" for line in lines]
    if any(whole):
        rows.append(["Corpus BLEU", "", *whole, *[""] * (2 * len(others))])
    return rows


def counted(faults: Sequence[Fault], arms: Sequence[str]) -> list[list[str]]:
    """How many faults of each kind every arm has."""
    many = Counter((f.kind, f.result.arm) for f in faults)
    return [["fault", *arms], *([k, *(str(many[k, arm]) for arm in arms)] for k in FAULTS)]


def to_markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table; its first row is the heads."""
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    return "\n".join([lines[0], "|---" * len(cells[0]) + "|", *lines[1:]])


# -- files


def to_json(record: Record) -> str:
    """Everything, passages included."""
    facts = {name: getattr(record, name) for name in Record.__slots__}
    facts["faults"] = [
        {"id": f.asked.id, "arm": f.result.arm, "kind": f.kind, "because": f.because}
        for f in record.faults
    ]
    for name in ("asked", "arms", "results", "lines"):
        facts[name] = [asdict(item) for item in facts[name]]
    return json.dumps({"format": FORMAT, **facts}, ensure_ascii=False, indent=1)


def to_csv(record: Record) -> str:
    """A row for each question and arm."""
    known = {q.id: q for q in record.asked}
    why = {f.result.key: f.kind for f in record.faults}
    rows = [
        ["id", "kind", "question", "expected", "arm", "answer", "right", "fault", "refused",
         "passages", *COMPUTED]
    ]  # fmt: skip
    for r in record.results:
        q = known[r.id]
        found = "; ".join(
            f"{h.chunk.document_name} p{min(h.chunk.pages, default=1)}" for h in r.hits
        )
        right = "" if r.right is None else "yes" if r.right else "no"
        rows.append(
            [q.id, q.kind, q.question, q.answer or " | ".join(q.short), r.arm, r.answer, right,
             why.get(r.key, ""), "yes" if r.refused else "no", found,
             *(f"{r.values[k]:.6g}" if k in r.values else "" for k in COMPUTED)]
        )  # fmt: skip
    return csv_text(rows)


def csv_text(rows: Sequence[Sequence[str]]) -> str:
    """CSV whose cells no spreadsheet takes for a formula: such a cell begins with an apostrophe
    (https://owasp.org/www-community/attacks/CSV_Injection)."""
    made = io.StringIO()
    writer = csv.writer(made, lineterminator="\n")
    writer.writerows([_cell(cell) for cell in row] for row in rows)
    return made.getvalue()


def _cell(text: str) -> str:
    try:
        float(text)
    except ValueError:
        return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
    return text


def to_html(record: Record) -> str:
    """One page: figures, what they mean, every fault, every answer, signature."""
    names = [line.arm for line in record.lines]
    parts = [
        f"<h1>{escaped(record.title)}</h1>",
        *(f"<p class=warn>{escaped(arm)}: {escaped(said)}</p>"
          for arm, said in record.problems.items()),
        "<h2>Figures</h2>",
        _html(table(record.lines)) if record.lines else "<p>Nothing was measured.</p>",
        f"<p class=quiet>Means over the questions a metric applies to, with their {LEVEL:.0%} "
        "bootstrap intervals. p: how often chance alone would make a difference this large.</p>",
        "<h2>Faults</h2>",
        _html(counted(record.faults, names)),
        facts_table("What they mean", FAULTS),
        *(_fault(fault) for fault in record.faults),
        "<h2>What the metrics say, and what they cannot see</h2>",
        _html([["metric", "scale", "says", "cannot see"],
               *([m.title, m.scale, m.says, m.blind] for m in METRICS.values())]),
        "<h2>Answers</h2>",
        *(_answers(q, record) for q in record.asked),
        "<h2>How it was made</h2>",
        *(facts_table(arm.name, asdict(arm)) for arm in record.arms),
        facts_table("Signature", record.signature),
    ]  # fmt: skip
    return standalone(record.title, parts)


def _html(rows: Sequence[Sequence[str]]) -> str:
    head, *body = rows
    lines = ["".join(f"<th>{escaped(cell)}</th>" for cell in head)]
    lines += ["".join(f"<td>{escaped(cell)}</td>" for cell in row) for row in body]
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _fault(fault: Fault) -> str:
    asked, said = fault.asked, fault.result
    return (
        f"<div class=box><strong>{escaped(asked.question)}</strong><p class=quiet>"
        f"{escaped(said.arm)} · {escaped(fault.kind)} · {escaped(fault.because)}</p>"
        f"<div class=text>{escaped(said.answer) or '–'}</div>"
        f"<p class=quiet>expected: {escaped(asked.answer or ' / '.join(asked.short)) or '–'}</p>"
        "</div>"
    )


def _answers(asked: Question, record: Record) -> str:
    rows = [[r.arm, r.answer] for r in record.results if r.id == asked.id]
    if not rows:
        return ""
    expected = asked.answer or " / ".join(asked.short) or "nothing known"
    return (
        f"<h3>{escaped(asked.question)}</h3><p class=quiet>expected: {escaped(expected)}</p>"
        + _html([["arm", "answer"], *rows])
    )
