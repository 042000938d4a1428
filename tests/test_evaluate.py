"""Questions x arms with the bundled model: what is kept, resumed, stopped, summed up and sorted."""

import json
import threading
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from samples import SAMPLE_DOCS, handbook, mini, small_corpus

from ragdemo.corpus import Corpus
from ragdemo.errors import DocumentError, ModelUnavailable
from ragdemo.evaluation import metrics
from ragdemo.evaluation.arms import USUAL, Arm, Bench, read_arms, recut, write_arms
from ragdemo.evaluation.faults import FAULTS, faults
from ragdemo.evaluation.journal import Journal, plan
from ragdemo.evaluation.metrics import METRICS, case
from ragdemo.evaluation.questions import Question, sample_questions
from ragdemo.evaluation.run import Result, run
from ragdemo.evaluation.summary import summarise
from ragdemo.retrieval import create
from ragdemo.types import Decoding, Hit

ASKED = [
    Question("lost", "How soon must a lost phone be reported?",
             "A lost phone must be reported to the IT desk within 24 hours.", ("24 hours",),
             "phones.md", (1,)),
    Question("leave", "How many days of paid annual leave do employees get?",
             "Full-time employees are entitled to 28 days of paid annual leave each year.",
             ("28 days",), "leave.md", (1,)),
    Question("pets", "Which pets may I bring to the office?", answerable=False),
]  # fmt: skip


def bench(corpus: Corpus) -> Bench:
    def generator(name):
        if name != "mini":
            raise ModelUnavailable(f"{name} is out of reach.")
        return mini()

    return Bench(partial(recut, corpus), create, generator)


def finished(arms=USUAL, asked=ASKED, **options):
    *_, last = run(asked, arms, bench(small_corpus()), **options)
    return last


def test_two_arms_differ_by_what_they_read():
    last = finished()
    assert (last.done, last.of, last.problems) == (6, 6, {})
    results = {r.key: r for r in last.results}
    found, alone = results["lost", "retrieval"], results["lost", "no retrieval"]
    assert (found.right, alone.right) == (True, False)
    assert len(found.hits) == found.read > 0
    assert alone.hits == ()
    assert found.values["recall"] == 1.0
    assert "recall" not in alone.values
    assert {"contains", "bleu", "rougeL", "support", "loose"} <= set(alone.values) & {*found.values}
    assert found.values["support"] == 1.0
    pets = results["pets", "retrieval"]
    assert pets.right == bool(pets.values["refuses"]) == pets.refused
    assert "contains" not in pets.values


def test_a_run_tells_how_far_it_is():
    asked = [replace(ASKED[0], id=str(n)) for n in range(10)]
    news = list(run(asked, USUAL, bench(small_corpus())))
    assert [s.done for s in news] == [0, 8, 16, 18, 20]
    assert news[0].left is None
    assert news[-1].left == 0
    assert all(s.left > 0 for s in news[1:-1])


def test_questions_of_an_arm_are_written_together():
    sizes = []

    class Counting:
        def __getattr__(self, name):
            return getattr(mini(), name)

        def stream(self, prompts, decodings, cancelled):
            sizes.append((len(prompts), bool(prompts[0].used)))
            return mini().stream(prompts, decodings, cancelled)

    asked = [replace(ASKED[0], id=str(n)) for n in range(20)]
    counted = replace(bench(small_corpus()), generator=lambda name: Counting())
    *_, last = run(asked, USUAL, counted)
    assert last.done == 40
    assert sizes == [(8, True), (8, False)] * 2 + [(4, True), (4, False)]


def test_cancelling_keeps_what_is_done_and_the_rest_is_made_up():
    cancelled = threading.Event()
    going = run(ASKED, USUAL, bench(small_corpus()), cancelled=cancelled)
    next(going)
    half = next(going)
    cancelled.set()
    assert list(going) == []
    assert {r.arm for r in half.results} == {"retrieval"}
    asked = []
    whole = bench(small_corpus())
    spied = replace(whole, retriever=lambda *a: asked.append(a) or create(*a))
    *_, last = run(ASKED, USUAL, spied, done=half.results)
    assert last.done == 6
    assert asked == []  # nothing was looked up again
    assert last.results[:3] == half.results


def test_an_arm_that_fails_says_why_and_the_others_go_on():
    last = finished([Arm("far", generator="nobody/none"), Arm("near")])
    assert last.problems == {"far": "nobody/none is out of reach."}
    assert {r.arm for r in last.results} == {"near"}
    assert last.done == last.of == 3


def test_arms_may_cut_order_and_fuse_in_their_own_way():
    arms = [Arm("short", tokens=32, overlap=0), Arm("sequence", fusion="marginalise", k=2),
            Arm("words", "bm25", k=1)]  # fmt: skip
    results = {r.key: r for r in finished(arms).results}
    assert len(results) == 9
    assert max(len(h.chunk.text) for h in results["lost", "short"].hits) < 200
    assert results["lost", "sequence"].right
    assert [h.retriever for h in results["lost", "words"].hits] == ["bm25"]


# -- on disk


def test_a_journal_goes_on_where_a_killed_run_stood(tmp_path):
    path, digest = tmp_path / "results.jsonl", plan(ASKED, USUAL, "index", Decoding())
    last = finished()
    Journal(path, digest).add(last.results)
    with path.open("ab") as file:
        file.write(b'{"id": "cut o')
    again = Journal(path, digest)
    assert tuple(again.results) == last.results
    again.add(last.results[:1])
    assert len(Journal(path, digest).results) == 7
    with pytest.raises(DocumentError, match="other questions"):
        Journal(path, plan(ASKED[:1], USUAL, "index", Decoding()))
    path.write_text('{"format": "x"}\nno json\n')
    with pytest.raises(DocumentError, match="other questions"):
        Journal(path, digest)


# -- arms


def test_arms_are_read_back_and_faults_named():
    arms = [*USUAL, Arm("BM25, 3", "bm25", 3, 64, 16, order="best last")]
    assert read_arms(write_arms(arms).encode(), "arms.json") == arms
    for text, said in (
        ("[]", "1 to 12"),
        ("{", "no JSON"),
        ('[{"retriever": "bm52"}]', "arm 1: unknown retriever 'bm52'"),
        ('[{"k": 0}]', "k must lie in"),
        ('[{"k": "5"}]', "k must be a number"),
        ('[{"name": 5}]', "name must be a text"),
        ('[{"colour": 1}]', "its fields must be among"),
        ('[{"name": "a"}, {"name": "a"}]', "'a' comes twice"),
        ('[{"tokens": 8}]', "tokens must lie"),
        ('[{"order": "none"}]', "unknown order"),
    ):
        with pytest.raises(DocumentError, match=said):
            read_arms(text.encode(), "arms.json")


# -- summary


def result(id: str, arm: str, **values: float) -> Result:
    return Result(id, arm, "x", "stop", False, None, (), 0, 1.0, values)


def test_means_and_differences_are_over_shared_questions():
    asked = [Question(str(n), "?", "x") for n in range(4)]
    results = [result(str(n), "a", f1=n / 4) for n in range(4)]
    results += [result(str(n), "b", f1=n / 4 + 0.25) for n in range(3)]
    first, second = summarise(asked, results, ["a", "b", "absent"])
    assert (first.arm, second.arm) == ("a", "b")
    assert first.means["f1"].mean == pytest.approx(np.mean([0, 0.25, 0.5, 0.75]))
    assert first.means["f1"].low < first.means["f1"].mean < first.means["f1"].high
    assert first.against == {}
    assert second.against["f1"].difference == pytest.approx(0.25)
    assert second.against["f1"].n == 3
    assert first.corpus_bleu is not None
    assert summarise(asked, [], ["a"]) == []


# -- metrics


def test_every_metric_says_what_it_is_and_cannot_see():
    for metric in METRICS.values():
        assert metric.says.endswith(".")
        assert metric.blind.endswith(".")
        assert metric.source == "" or metric.source.startswith("https://")
    assert METRICS["f1"].scale == "0 to 1, higher is better"
    assert METRICS["seconds"].scale == "0 up, lower is better"
    assert METRICS["accuracy"].scale == "1 to 5, higher is better"
    assert metrics.SCALES == ("relevance", "coherence", "accuracy")


def valued(asked: Question, answer: str, hits=(), *, refused=False, k=5):
    files = {"phones.md": "", "leave.md": ""}
    return metrics.measured(case(asked, answer, refused, hits, hits, files=files, k=k, seconds=2.0))


def test_metrics_apply_only_where_they_can():
    pets = valued(ASKED[2], "Dogs.", refused=False)
    assert pets == {"refuses": 0.0, "seconds": 2.0}
    nothing_known = valued(Question("x", "What?"), "Dogs.")
    assert nothing_known == {"overrefuses": 0.0, "seconds": 2.0}
    elsewhere = replace(ASKED[0], file="gone.md")
    corpus = small_corpus()
    hits = [Hit(c, 1.0, n, "dense") for n, c in enumerate(corpus.chunks, 1)]
    assert "recall" not in valued(elsewhere, "24 hours", hits)
    good = valued(ASKED[0], ASKED[0].answer, hits)
    assert good["recall"] == good["page"] == good["exact"] == good["rougeL"] == 1.0
    at = next(h.rank for h in hits if h.chunk.document_name == "phones.md")
    assert good["mrr"] == 1 / at
    assert good["bleu"] == pytest.approx(1.0)
    refused = valued(ASKED[0], "The documents do not say.", hits, refused=True)
    assert refused["overrefuses"] == 1.0
    assert refused["f1"] == 0.0
    assert "support" not in refused


# -- faults


def wrong(corpus, asked: Question, answer: str, files: list[str], *, read=None, refused=False):
    chunks = [c for name in files for c in corpus.chunks if c.document_name == name]
    hits = tuple(Hit(c, 1.0, n, "dense") for n, c in enumerate(chunks, 1))
    made = Result(asked.id, "a", answer, "stop", refused, False, hits,
                  len(hits) if read is None else read, 1.0)  # fmt: skip
    (fault,) = faults([asked], [made], corpus)
    return fault


def test_every_kind_of_fault():
    corpus, lost = small_corpus(), ASKED[0]
    kinds = {
        "retrieval missed": wrong(corpus, lost, "A week.", ["leave.md"]),
        "generator ignored": wrong(corpus, lost, "A week.", ["phones.md"]),
        "refused wrongly": wrong(corpus, lost, "", ["phones.md"], refused=True),
        "should have refused": wrong(corpus, ASKED[2], "Dogs.", ["leave.md"]),
        "gold is odd": wrong(corpus, replace(lost, short=("seven",)), "A week.", ["phones.md"]),
        "nothing to go by": wrong(corpus, lost, "A week.", []),
    }
    assert {kind: fault.kind for kind, fault in kinds.items()} == {k: k for k in FAULTS}
    assert kinds["generator ignored"].at == 1
    cut = wrong(corpus, lost, "A week.", ["leave.md", "phones.md"], read=1)
    assert cut.kind == "retrieval missed"
    assert "had room for 1" in cut.because
    gone = wrong(corpus, replace(lost, file="gone.md"), "A week.", ["phones.md"])
    assert "gone.md, page 1, is not among the documents" in gone.because


def test_a_scanned_page_is_named_as_such():
    asked = next(q for q in sample_questions(SAMPLE_DOCS) if q.id == "scan-01")
    made = Result(asked.id, "a", "A week.", "stop", False, False, (), 0, 1.0)
    (fault,) = faults([asked], [made], handbook())
    assert fault.kind == "gold is odd"
    assert "it may be a scan" in fault.because


def test_right_answers_are_no_faults():
    corpus = small_corpus()
    results = finished().results
    assert {f.result.key for f in faults(ASKED, results, corpus)} == {
        r.key for r in results if not r.right
    }
    assert json.dumps([f.because for f in faults(ASKED, results, corpus)])
