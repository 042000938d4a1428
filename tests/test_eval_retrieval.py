"""Measuring retrievers: small sets in the form of the real ones, one command, one table."""

import json
import lzma
import subprocess
import sys

import numpy as np
import pytest
from samples import LEAVE, PHONES, ROOT, SAMPLE_DOCS, handbook, mini

from ragdemo.__main__ import main
from ragdemo.embedding import HashingEncoder
from ragdemo.errors import DocumentError, RagdemoError
from ragdemo.evaluation.questions import Question, sample_questions
from ragdemo.evaluation.ranking import gold_rank
from ragdemo.evaluation.remembering import Remembering
from ragdemo.evaluation.retrieval import described, drawn, made, measure, parsed
from ragdemo.evaluation.sets import Passage, documents, load_set, whole
from ragdemo.evaluation.table import Measured, table
from ragdemo.pipeline import build
from ragdemo.retrieval import create

ANIMALS = {
    "cats": ("Cats", "Cats purr, sleep and hunt mice."),
    "dogs": ("Dogs", "Dogs bark, fetch sticks and guard the house."),
    "frogs": ("", "Frogs croak in ponds and eat flies."),
    "purring": ("Purring", "Cats purr at 25 hertz when they sleep."),
}


class Counting(HashingEncoder):
    """Counts the queries it is given."""

    def __init__(self):
        super().__init__()
        self.queries = 0

    def encode_queries(self, texts):
        self.queries += len(texts)
        return super().encode_queries(texts)


def write_xz(path, rows):
    with lzma.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def data(tmp_path):
    """A data folder with two tiny sets in the real ones' form."""
    folder = tmp_path / "eval" / "beir" / "nfcorpus"
    folder.mkdir(parents=True)
    write_xz(
        folder / "corpus.jsonl.xz",
        [{"_id": name, "title": title, "text": text} for name, (title, text) in ANIMALS.items()],
    )
    queries = [
        {"_id": "q1", "text": "Which animals bark?"},
        {"_id": "cats", "text": "Cats Cats purr, sleep and hunt mice."},  # a passage of the corpus
        {"_id": "train", "text": "Not asked in the test."},
    ]
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, queries)))
    judged = [("q1", "dogs", 2), ("q1", "frogs", 0), ("cats", "purring", 1)]
    (folder / "qrels_test.tsv").write_text(
        "query-id\tcorpus-id\tscore\n" + "".join(f"{q}\t{d}\t{s}\n" for q, d, s in judged)
    )
    write_xz(
        tmp_path / "eval" / "squad1_dev_39articles.jsonl.xz",
        [
            {"id": f"s{i}", "question": question, "passages": [{"title": title, "text": text}]}
            for i, (question, title, text) in enumerate(
                [
                    ("What do cats hunt?", "Cat", "Cats hunt mice at night."),
                    ("What do dogs fetch?", "Dog", "Dogs fetch sticks all day."),
                    ("Where do cats sleep?", "Cat", "Cats sleep on the sofa."),
                    ("When do cats hunt mice?", "Cat", "Cats hunt mice at night."),
                ]
            )
        ],
    )
    return tmp_path


def test_whole_passages_keep_their_offsets():
    passages = [Passage("a", "One.", "x"), Passage("b", "", "x"), Passage("c", "Zwei é.", "y")]
    corpus, ids = whole(passages, HashingEncoder())
    assert [d.name for d in corpus.documents.values()] == ["x", "y"]
    assert [ids[c.id] for c in corpus.chunks] == ["a", "b", "c"]
    for chunk, passage in zip(corpus.chunks, passages, strict=True):
        text = corpus.documents[chunk.document_id].text
        assert text[chunk.start : chunk.end] == chunk.text == passage.text
    expected = HashingEncoder().encode_passages([p.text for p in passages])
    assert np.array_equal(corpus.vectors, expected)


@pytest.mark.parametrize("name", ["dense", "bm25", "tfidf", "rrf", "weighted", "mmr"])
def test_beir_leaves_the_query_itself_out(data, name):
    chosen = load_set("nfcorpus", data, SAMPLE_DOCS, HashingEncoder())
    assert set(chosen.questions) == {"q1", "cats"}  # training queries are not asked
    assert chosen.corpus.chunks[0].text == "Cats Cats purr, sleep and hunt mice."
    retriever = create(name, chosen.corpus)
    best = retriever.search(chosen.questions["cats"], 1)[0]
    assert best.chunk.text == chosen.questions["cats"]  # it would be its own best answer
    found = measure(chosen, retriever)
    assert found.values["nDCG@10"] == {"q1": 1.0, "cats": 1.0}
    assert found.seconds > 0


def test_squad_asks_for_the_own_paragraph(data):
    chosen = load_set("squad", data, SAMPLE_DOCS, HashingEncoder())
    assert len(chosen.corpus.chunks) == 3  # equal paragraphs are one
    assert len(chosen.corpus.documents) == 2
    found = measure(chosen, create("bm25", chosen.corpus)).values
    assert set(found["recall@1"].values()) == {1.0}
    # a hit that brings its neighbours finds each paragraph it holds
    around = create("neighbours", chosen.corpus, inner="bm25")
    hit = around.search("What do cats hunt?", 1)[0]
    assert "sofa" in hit.chunk.text
    assert measure(chosen, around).values["recall@1"]["s2"] == 1.0


def test_documents_count_a_gold_page_and_leave_the_unanswerable_out():
    corpus = build([("leave.md", LEAVE), ("phones.md", PHONES)], HashingEncoder())
    asked = [
        Question("1", "How many days of annual leave?", file="leave.md", pages=(1,)),
        Question("2", "Lost phone and annual leave?", file="leave.md", pages=(1,),
                 also=(("phones.md", (1,)),)),
        Question("3", "Who is the king?", answerable=False),
        Question("4", "Where does nobody know?"),
        Question("5", "Lost phone?", file="elsewhere.md", pages=(1,)),
    ]  # fmt: skip
    chosen = documents("mine", asked, corpus)
    assert set(chosen.questions) == {"1", "2", "5"}
    found = measure(chosen, create("bm25", corpus)).values
    assert found["gold page in 5"] == {"1": 1.0, "2": 1.0, "5": 0.0}
    assert found["share of places in 5"]["2"] == 1.0
    assert found["MRR@10"] == {"1": 1.0, "2": 1.0, "5": 0.0}


def test_the_samples_gold_pages_can_all_be_found():
    """Every gold page but the scanned one is touched by a chunk of the handbook."""
    asked = sample_questions(SAMPLE_DOCS)
    chosen = documents("samples", asked, handbook())
    everything = create("dense", handbook()).search("policy", 10_000)
    assert len(everything) == len(handbook().chunks)
    assert len(chosen.questions) == sum(q.answerable for q in asked)
    missing = [q for q in asked if q.answerable and not gold_rank(everything, q.places)]
    assert {(q.file, q.pages) for q in missing} == {("grievance-policy.pdf", (4,))}


def test_each_question_is_embedded_once(tmp_path):
    inner = Counting()
    encoder = Remembering(inner, tmp_path / "cache")
    encoder.learn(["a cat", "a dog"])
    rows = encoder.encode_queries(["a dog", "a cat", "a dog"])
    assert inner.queries == 2
    assert np.array_equal(rows, HashingEncoder().encode_queries(["a dog", "a cat", "a dog"]))
    assert encoder.encode_queries([]).shape == (0, encoder.dimension)
    again = Remembering(Counting(), tmp_path / "cache")
    again.learn(["a cat", "a dog"])
    assert again.inner.queries == 0  # read back from the folder
    assert np.array_equal(again.encode_queries(["a dog", "a cat", "a dog"]), rows)
    again.learn(["a cat", "a cow"])  # other texts are other vectors
    assert again.inner.queries == 2


def test_draws_are_nested_and_the_same():
    questions = {str(i): "x" for i in range(50)}
    assert drawn(questions, None) == drawn(questions, 99) == list(questions)
    assert drawn(questions, 10) == drawn(questions, 20)[:10]
    assert len(set(drawn(questions, 20))) == 20


def test_the_table_compares_on_the_questions_both_were_asked(data):
    chosen = load_set("squad", data, SAMPLE_DOCS, HashingEncoder())
    one = {f"s{i}": 1.0 for i in range(4)}
    zero = {"s0": 0.0, "s1": 1.0}
    lines = [
        Measured("first", dict.fromkeys(chosen.measures, one), 0.001),
        Measured("second", {"recall@1": zero, "recall@5": zero}, 0.002),
        Measured("third", problem="It needs a key."),
    ]
    text = table(chosen, lines)
    head, rule, *rows = text.splitlines()[2:]
    assert {line.count(" | ") for line in (head, *rows)} == {head.count(" | ")}
    assert rule.count("---") == head.count("|") - 1
    assert rows[0] == f"| first | 4 | {' | '.join(['1.000 (1.000-1.000)'] * 3)} |  |  | 1.0 |"
    assert "| second | 2 | 0.500 (0.000-1.000) |" in rows[1]
    assert "-0.500 (-1.000 to +0.000) | 1.000 | 2.0 |" in rows[1]
    assert rows[2].startswith("| third |  | not measured: It needs a key. |")


def test_measures_deeper_than_the_hits_are_left_out(data):
    chosen = load_set("nfcorpus", data, SAMPLE_DOCS, HashingEncoder())
    found = measure(chosen, create("dense", chosen.corpus), limit=1, depth=30)
    assert set(found.values) == {"nDCG@10", "recall@10"}
    assert len(found.values["nDCG@10"]) == 1


def test_a_set_without_known_places_ends_in_a_sentence():
    corpus = build([("leave.md", LEAVE)], HashingEncoder())
    chosen = documents("mine", [Question("1", "Where?")], corpus)
    with pytest.raises(RagdemoError, match=r"mine .* no question whose passage is known"):
        measure(chosen, create("bm25", corpus))


def test_settings_are_told(data):
    chosen = load_set("squad", data, SAMPLE_DOCS, HashingEncoder())
    assert parsed("bm25:k1=0.9,b=1,language=") == ("bm25", {"k1": 0.9, "b": 1, "language": ""})
    given = "bm25:k1=0.9"
    assert described(given, made(given, chosen, mini)).startswith(f"{given}: k1=0.9, b=0.75, ")
    assert described("rrf", made("rrf", chosen, mini)).startswith("rrf: over dense and bm25, k=60")
    for wrong, told in {"bm52": "Unknown retriever", "bm25:k9=1": "does not know"}.items():
        with pytest.raises(RagdemoError, match=told):
            made(wrong, chosen, mini)


def test_one_command_writes_the_tables(data, capsys):
    out = data / "tables.md"
    command = "eval retrieval --encoder hashing --sets nfcorpus squad --retrievers bm25 bm25:k1=0.5"
    options = ["neighbours", "--data", str(data), "--cache", str(data / "c"), "--out", str(out)]
    assert main([*command.split(), *options]) == 0
    text = out.read_text(encoding="utf-8")
    assert "**nfcorpus (4 passages)**" in text
    assert "| neighbours |  | not measured: its passages stand in no order |" in text
    assert "**squad (3 paragraphs of 2 articles)**" in text
    assert "nDCG@10 against bm25" in text
    assert "| bm25:k1=0.5 | 2 | 1.000" in text
    for fact in ('passages "title text" whole', "k1=", "stop words", "bm25s 0.", "SHA-256 "):
        assert fact in text
    shown = capsys.readouterr().out
    assert all(line in shown for line in text.splitlines())
    assert len(list((data / "c").iterdir())) == 4  # passages and questions of both sets


def test_missing_data_ends_in_a_sentence(tmp_path, capsys):
    with pytest.raises(DocumentError, match="--data DIR"):
        load_set("squad", None, SAMPLE_DOCS, HashingEncoder())
    with pytest.raises(DocumentError, match="is not there"):
        load_set("arguana", tmp_path, SAMPLE_DOCS, HashingEncoder())
    command = f"eval retrieval --encoder hashing --sets squad --data {tmp_path}"
    assert main(command.split()) == 1
    assert "squad1_dev_39articles.jsonl.xz is not there" in capsys.readouterr().err


def test_the_formulas_load_nothing_heavy():
    code = (
        "import ragdemo.evaluation.questions, ragdemo.evaluation.bootstrap, sys; "
        "print([m for m in ('torch', 'transformers', 'faiss', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
