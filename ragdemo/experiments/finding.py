"""Experiments on how passages are cut and found."""

from __future__ import annotations

from collections.abc import Sequence

from ragdemo import retrieval
from ragdemo.corpus import Corpus
from ragdemo.experiments.base import Arm, Experiment
from ragdemo.experiments.lab import Given, Lab
from ragdemo.settings import Chunking
from ragdemo.types import Chunk

BACKUPS = "How long are backups of Quillmere drives kept?"
PLAIN = "How soon must a lost or stolen phone be reported?"
PARAPHRASE = "My company mobile has gone missing; how fast do I need to tell someone?"
LEAVE = "How many days of paid annual leave do full-time employees receive?"
MEDIATION = "How long may one session of mediation last?"
TINY = 16  # tokens, the smallest that `Chunking` takes
FILES = ("it-security-policy.pdf", "mobile-phone-policy.pdf", "expenses-policy.pdf")
TYPED = """# Form HR-21: rules of the meeting

Each session of mediation lasts at most three hours.

The mediator destroys all notes within seven days of the last session.
"""


def _chunks(lab: Lab) -> Sequence[Arm]:
    given = []
    for title, corpus in (
        (f"Passages of {TINY} tokens", _cut(lab, Chunking(TINY, 0))),
        ("Passages of 200 tokens", _cut(lab, Chunking(200, 40))),
        ("Whole documents as passages", _whole(lab)),
    ):
        given.append(Given(title, lab.find(BACKUPS, corpus), note=f"{len(corpus.chunks)} passages"))
    return lab.answers(BACKUPS, "35 days", given)


def _cut(lab: Lab, chunking: Chunking) -> Corpus:
    made = Corpus(lab.samples.encoder, chunking)
    for name in FILES:
        made.add(lab.document(name))
    return made


def _whole(lab: Lab) -> Corpus:
    """Each document one passage. Encoder and generator read its beginning, as far as they can."""
    encoder = lab.samples.encoder
    made = Corpus(encoder)
    for document in map(lab.document, FILES):
        end = len(document.text)
        pages = tuple(page.number for page in document.pages)
        name = f"{document.id[:16]}:0-{end}"
        chunk = Chunk(name, document.id, document.name, document.text, 0, end, pages)
        made.adopt(document, [chunk], encoder.encode_passages([chunk.content]))
    return made


def _chunks_came(arms: Sequence[Arm]) -> int:
    small, usual, large = (one.right for one in arms)
    if usual and not small and not large:
        return 1
    return 0 if small else 2 if large else 3


def _paraphrase(lab: Lab) -> Sequence[Arm]:
    bm25 = retrieval.create("bm25", lab.samples)
    return lab.answers(PARAPHRASE, "two hours", [
        Given("BM25, the policy's own words", lab.find(PLAIN, retriever=bm25), PLAIN, PLAIN),
        Given("BM25, other words", lab.find(PARAPHRASE, retriever=bm25), note=PARAPHRASE),
        Given("Dense, the policy's own words", lab.find(PLAIN), PLAIN, PLAIN),
        Given("Dense, other words", lab.find(PARAPHRASE), note=PARAPHRASE),
    ])  # fmt: skip


def _paraphrase_came(arms: Sequence[Arm]) -> int:
    plain, other, dense_plain, dense = (any(read.holds for read in one.read) for one in arms)
    if plain and dense_plain and dense and not other:
        return 1
    return 2 if other and not dense else 0


def _superseded(lab: Lab) -> Sequence[Arm]:
    current = lab.private(without=["annual-leave-policy-2023.pdf"])
    return lab.answers(LEAVE, "27 days", [
        Given("Both policies among the documents", lab.find(LEAVE)),
        Given("The old policy taken away", lab.find(LEAVE, current)),
    ])  # fmt: skip


def _superseded_came(arms: Sequence[Arm]) -> int:
    both, _ = arms
    old = "25 days" in both.answer
    return (2 if both.right else 1) if old else 0


def _scanned(lab: Lab) -> Sequence[Arm]:
    typed = lab.private(("form-hr-21.md", TYPED))
    return lab.answers(MEDIATION, "three hours", [
        Given("The PDF, whose page 4 is a scan", lab.find(MEDIATION)),
        Given("With the same page typed", lab.find(MEDIATION, typed)),
    ])  # fmt: skip


def _scanned_came(arms: Sequence[Arm]) -> int:
    scan, typed = arms
    return 0 if scan.right else 1 if typed.right else 2


FINDING = (
    Experiment(
        "chunks",
        "Passages far too small, and far too large",
        BACKUPS,
        f"Three documents are cut into passages of {TINY} tokens, of 200, and not at all. The "
        "question is asked of each.",
        (
            f"{TINY} tokens work: short passages are precise",
            "Only 200 tokens give the answer",
            "Whole documents work: nothing is torn apart",
            "None gives the answer",
        ),
        1,
        "Cut too small, the sentence is torn: one passage says that backups are kept, another for "
        "how long. Not cut at all, encoder and generator read only the beginning of each document "
        "and never reach the line. A passage should hold one thought and fit into the models.",
        _chunks,
        _chunks_came,
    ),
    Experiment(
        "paraphrase",
        "The same question in other words",
        PARAPHRASE,
        "A question is asked twice: in the policy's own words (“How soon must a lost or stolen "
        "phone be reported?”) and as somebody might say it. BM25 counts shared words, the dense "
        "retriever compares meanings.",
        (
            "Both find the passage both times",
            "BM25 loses it in other words, the dense retriever keeps it",
            "The dense retriever loses it, BM25 keeps it",
        ),
        1,
        "“Gone missing” and “tell someone” share no word with “stolen or lost” and “reported”, so "
        "counting words finds nothing. Vectors of the two lie near each other. For a form number "
        "or a name it is the other way round, which is why many systems use both.",
        _paraphrase,
        _paraphrase_came,
    ),
    Experiment(
        "superseded",
        "An old policy that outranks the new one",
        LEAVE,
        "The documents hold the leave policy in force (27 days) and the superseded one of 2023 "
        "(25 days). The question does not name a year.",
        (
            "27 days: the newer document wins",
            "25 days: the old one matches the words better",
            "It gives both and says which is in force",
        ),
        1,
        "Similarity knows no dates. The old sentence is nearer to the question, so it comes first "
        "and is quoted, correctly, with its page. Take superseded documents away, or filter by "
        "date before searching.",
        _superseded,
        _superseded_came,
    ),
    Experiment(
        "scanned",
        "A scanned page",
        MEDIATION,
        "Page 4 of the grievance policy is a scanned form. Anyone can read on it how long a "
        "session lasts. Then the same lines are added as typed text.",
        (
            "It answers from the scan: the words are there to see",
            "The scan is missed; the typed text gives the answer",
            "Neither gives the answer",
        ),
        1,
        "A scan is a picture without a single letter in it. What gives no text is not cut, not "
        "embedded and never found, and the answer is that the documents don't say. The Documents "
        "page lists such pages; text recognition (OCR) before uploading mends it.",
        _scanned,
        _scanned_came,
    ),
)
