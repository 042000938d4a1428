"""The contract of every retriever, and what each promises beyond it."""

import subprocess
import sys
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import samples
import tiny_models
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ragdemo.corpus import NONSENSE, Corpus
from ragdemo.embedding import DPREncoder, HashingEncoder
from ragdemo.errors import IndexMismatch, ModelUnavailable, RagdemoError
from ragdemo.retrieval import RETRIEVERS, create, floor
from ragdemo.retrieval.bm25 import BM25
from ragdemo.retrieval.dense import Dense
from ragdemo.retrieval.fused import Fused
from ragdemo.retrieval.hyde import HyDE
from ragdemo.retrieval.matching import matched_terms, matched_tokens
from ragdemo.retrieval.neighbours import Neighbours
from ragdemo.retrieval.phrasings import Phrasings, statement
from ragdemo.retrieval.reranked import CrossEncoderScorer, Reranked
from ragdemo.retrieval.weighted import Weighted
from ragdemo.settings import Chunking
from ragdemo.stores.faiss import FaissStore

QUESTION = "Who must report a lost mobile phone?"
NOTHING = ["", "   ", "?!...", "🙂📱", "\u200b", "\ud800", "\n\n---\n"]
ODD = ["日本語の休暇", "e\u0301te\u0301 \ud800 leave", "a" * 20_000, "the of and", "leave " * 3_000]
LAMPS = (
    "lamps.md",
    b"# Lamps\n\nThe lamp is lit at low tide. It burns whale oil.\n\n"
    + b"\n\n".join(b"Section %d: rope, tar and the price of both." % i for i in range(40)),
)


@pytest.fixture(scope="session")
def options(tmp_path_factory):
    """What `create` needs for each name, models loaded once."""
    dpr = DPREncoder(*tiny_models.dpr(tmp_path_factory.mktemp("dpr")))
    return {
        "dpr": {"encoder": dpr},
        "hyde": {"generator": samples.mini()},
        "reranked": {"generator": samples.mini()},
    }


@pytest.fixture(params=list(RETRIEVERS))
def name(request):
    return request.param


@pytest.fixture
def make(name, options):
    return lambda corpus: create(name, corpus, **options.get(name, {}))


@cache
def shared() -> Corpus:
    """Read it, don't change it."""
    return samples.small_corpus()


def hashed(*files: tuple[str, bytes], tokens: int = 48) -> Corpus:
    corpus = Corpus(HashingEncoder(), Chunking(tokens=tokens, overlap=0))
    for name, data in files:
        corpus.add(samples.document(name, data))
    return corpus


@cache
def manual() -> Corpus:
    """The sample documents' sources, in small chunks; read it, don't change it."""
    sources = sorted((samples.SAMPLE_DOCS / "source").glob("*.md"))
    return hashed(*((path.name, path.read_bytes()) for path in sources))


def check(retriever, hits, k):
    """What holds for every list of hits."""
    corpus = retriever.corpus
    assert len(hits) <= k
    assert [h.rank for h in hits] == list(range(1, len(hits) + 1))
    scores = [h.score for h in hits]
    assert np.isfinite(scores).all()
    assert all(a >= b - 1e-6 for a, b in pairwise(scores))
    assert len({h.chunk.id for h in hits}) == len(hits)
    for hit in hits:
        document = corpus.documents[hit.chunk.document_id]
        assert document.text[hit.chunk.start : hit.chunk.end] == hit.chunk.text
        assert hit.retriever == retriever.name
        assert hit.parts
        if retriever.name != "neighbours":
            assert hit.chunk in corpus.chunks


# -- the contract


def test_name_and_corpus(make, name):
    retriever = make(shared())
    assert retriever.name == name
    assert retriever.corpus is shared()


@pytest.mark.parametrize("k", [1, 2, 1000])
def test_any_k(make, k):
    retriever = make(shared())
    hits = retriever.search(QUESTION, k)
    check(retriever, hits, k)
    assert hits
    assert [h.chunk.id for h in retriever.search(QUESTION, k)] == [h.chunk.id for h in hits]


def test_k_below_one(make):
    for corpus in (shared(), Corpus(samples.encoder())):
        with pytest.raises(ValueError, match="k must"):
            make(corpus).search(QUESTION, 0)


def test_scores_are_those_of_the_hits(make, name):
    retriever = make(shared())
    scores = retriever.scores(QUESTION)
    chunks = shared().chunks
    assert scores.shape == (len(chunks),)
    assert scores.dtype == np.float32
    assert not np.isnan(scores).any()
    hits = retriever.search(QUESTION, len(chunks))
    place = {c.id: i for i, c in enumerate(chunks)}
    if name == "neighbours":  # its passages hold several chunks
        assert hits[0].score == pytest.approx(scores.max(), abs=1e-5)
    else:
        for hit in hits:
            assert hit.score == pytest.approx(scores[place[hit.chunk.id]], abs=1e-5)
        unfound = set(range(len(chunks))) - {place[h.chunk.id] for h in hits}
        assert all(scores[i] == -np.inf for i in unfound)


def test_no_documents(make):
    retriever = make(Corpus(samples.encoder()))
    assert retriever.search(QUESTION, 5) == []
    assert retriever.scores(QUESTION).shape == (0,)
    assert floor(retriever) is None


@pytest.mark.parametrize("question", NOTHING, ids=ascii)
def test_a_question_that_asks_nothing_finds_nothing(make, question):
    retriever = make(shared())
    assert retriever.search(question, 3) == []
    assert (retriever.scores(question) == -np.inf).all()


@pytest.mark.parametrize("question", ODD, ids=range(len(ODD)))
def test_odd_questions(make, question):
    retriever = make(shared())
    check(retriever, retriever.search(question, 3), 3)
    assert retriever.scores(question).shape == (len(shared().chunks),)


def test_follows_the_corpus(make):
    corpus = samples.small_corpus()
    retriever = make(corpus)
    asked = "When is the lamp lit at low tide?"
    retriever.search(asked, 3)
    (new, *_) = corpus.add(samples.document("lamps.md", b"# Lamps\n\nThe lamp is lit at low tide."))
    hits = retriever.search(asked, 50)
    assert new.document_id in {h.chunk.document_id for h in hits}
    check(retriever, hits, 50)
    assert len(retriever.scores(asked)) == len(corpus.chunks)
    corpus.remove(new.document_id)
    hits = retriever.search(asked, 50)
    assert new.document_id not in {h.chunk.document_id for h in hits}
    check(retriever, hits, 50)


def test_a_file_taken_out_and_put_back(make):
    """The set of files, and with it the fingerprint, is the same; the chunks' order is not."""
    corpus = samples.small_corpus()
    retriever = make(corpus)
    before = {h.chunk.id: h.score for h in retriever.search(QUESTION, 50)}
    fingerprint, order = corpus.fingerprint, [c.id for c in corpus.chunks]
    first = samples.document()
    corpus.remove(first.id)
    corpus.add(first)
    assert corpus.fingerprint == fingerprint
    assert [c.id for c in corpus.chunks] != order
    hits = retriever.search(QUESTION, 50)
    check(retriever, hits, 50)
    after = {h.chunk.id: h.score for h in hits}
    if retriever.name != "mmr":  # equal values may be chosen in another order
        assert after == pytest.approx(before, abs=1e-5)
    scores = retriever.scores(QUESTION)
    best = corpus.chunks[int(scores.argmax())].id
    if retriever.name != "neighbours":
        assert after[best] == pytest.approx(max(after.values()), abs=1e-5)


def test_chunks_without_a_word(make):
    corpus = Corpus(samples.encoder())
    corpus.add(samples.document("rule.txt", "— — —\n\n***\n".encode()))
    assert corpus.chunks
    retriever = make(corpus)
    check(retriever, retriever.search(QUESTION, 5), 5)
    floor(retriever)


def test_floor_is_kept_until_the_corpus_changes(make, monkeypatch):
    corpus = samples.small_corpus()
    retriever = make(corpus)
    first = floor(retriever)
    absent = getattr(retriever, "absent", None)

    def measured() -> float:
        found = [retriever.search(question, 1) for question in NONSENSE]
        return np.mean([hits[0].score if hits else absent for hits in found])

    assert first == pytest.approx(measured())
    monkeypatch.setattr(type(retriever), "search", None)  # asking again would fail
    assert floor(retriever) == first
    monkeypatch.undo()
    corpus.add(
        samples.document("n.md", b"# N\n\n" + NONSENSE[0].encode() + b" The glaze of a comet.")
    )
    assert floor(retriever) == pytest.approx(measured())


def test_every_choice_is_described():
    for choice in RETRIEVERS.values():
        assert choice.title
        assert "Score" in choice.about
        assert choice.paper.startswith("https://")
        assert choice.needs in ("", "generator", "download")


def test_names_are_checked():
    with pytest.raises(RagdemoError, match="'bm52': choose from dense, bm25"):
        create("bm52", shared())
    for name in ("hyde", "reranked"):
        with pytest.raises(RagdemoError, match="generator"):
            create(name, shared())


def test_import_is_light():
    heavy = "torch transformers faiss sentence_transformers bm25s sklearn scipy Stemmer".split()
    code = f"import ragdemo.retrieval, sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# -- dense


class _Broken(HashingEncoder):
    """An encoder gone wrong, as a damaged model does."""

    def encode_queries(self, texts):
        rows = super().encode_queries(texts)
        rows[:, 0] = np.nan
        return rows

    def encode_passages(self, texts, progress=None):
        return HashingEncoder().encode_passages(texts, progress)


def test_a_question_vector_that_is_none_is_said():
    own = Corpus(_Broken())
    own.add(samples.document())
    for found in (Dense(own), Dense(hashed(*samples.FILES), encoder=_Broken())):
        for ask in (lambda f: f.search(QUESTION, 3), lambda f: f.scores(QUESTION)):
            with pytest.raises(ModelUnavailable, match="not finite"):
                ask(found)


@pytest.mark.parametrize("kind", ["flat IP", "flat L2", "HNSW", "PQ"])
def test_another_store_with_the_same_vectors(kind):
    corpus = hashed(*samples.FILES, LAMPS)
    store = FaissStore(corpus.encoder.dimension, kind)
    found = Dense(corpus, store=store)
    wanted = Dense(corpus).search(QUESTION, 3)
    hits = found.search(QUESTION, 3)
    check(found, hits, 3)
    assert hits[0].chunk.id == wanted[0].chunk.id
    assert len(store) == len(corpus.chunks)
    if kind.startswith("flat"):
        scores = found.scores(QUESTION)
        place = {c.id: i for i, c in enumerate(corpus.chunks)}
        for hit in hits:
            assert hit.score == pytest.approx(scores[place[hit.chunk.id]], abs=1e-5)
    gone = hits[0].chunk.document_id
    corpus.remove(gone)
    assert gone not in {h.chunk.document_id for h in found.search(QUESTION, 50)}
    assert len(store) == len(corpus.chunks)


def test_a_store_filled_by_someone_else():
    corpus = hashed(*samples.FILES)
    store = FaissStore(corpus.encoder.dimension)
    store.add([c.id for c in corpus.chunks], corpus.vectors)
    wanted = [h.chunk.id for h in Dense(corpus).search(QUESTION, 9)]
    assert [h.chunk.id for h in Dense(corpus, store=store).search(QUESTION, 9)] == wanted
    store.remove([corpus.chunks[0].id])
    with pytest.raises(IndexMismatch, match="belong together"):
        Dense(corpus, store=store).search(QUESTION, 9)


def test_ids_that_nobody_knows_are_no_passages():
    corpus = hashed(*samples.FILES)
    store = FaissStore(corpus.encoder.dimension)
    store.add([f"old {i}" for i in range(len(corpus.chunks))], corpus.vectors)
    with pytest.raises(IndexMismatch, match="belong together"):
        Dense(corpus, store=store).search(QUESTION, 9)


# -- words


def test_endings_do_not_matter():
    corpus = hashed(*samples.FILES)
    for found in (BM25(corpus), create("tfidf", corpus)):
        hit = found.search("reporting phones", 1)[0]
        assert set(hit.parts) == {"reporting", "phones"}
    exact = BM25(corpus, language="")
    assert exact.search("reporting", 1) == []


@pytest.mark.parametrize("name", ["bm25", "tfidf"])
def test_parts_add_up(name):
    found = create(name, manual())
    for question in (QUESTION, "phone phone phones policy", "annual leave days in 2023"):
        hits = found.search(question, 20)
        assert len(hits) == 20
        for hit in hits:
            assert sum(hit.parts.values()) == pytest.approx(hit.score, abs=1e-4)
            assert min(hit.parts.values()) > 0


def test_settings_of_bm25_are_checked():
    corpus = hashed()
    with pytest.raises(RagdemoError, match="lucene, robertson"):
        BM25(corpus, method="okapi")
    with pytest.raises(RagdemoError, match=r"b in 0\.\.1"):
        BM25(corpus, b=2)
    with pytest.raises(RagdemoError, match="english"):
        BM25(corpus, language="klingon")


@pytest.mark.parametrize("method", ["lucene", "robertson", "atire", "bm25l", "bm25+"])
def test_a_passage_without_the_word_is_not_found(method):
    found = BM25(manual(), method=method)
    hits = found.search("roaming", 1000)
    assert 0 < len(hits) < len(manual().chunks)
    assert all("roam" in h.chunk.content.lower() for h in hits)


# -- wrappers


def test_fused_names_what_each_added():
    corpus = shared()
    found = Fused([Dense(corpus), BM25(corpus), Dense(corpus)])
    hit = found.search(QUESTION, 1)[0]
    assert set(hit.parts) == {"dense", "bm25", "dense 2"}
    assert sum(hit.parts.values()) == pytest.approx(hit.score)


def test_only_retrievers_of_one_corpus_are_joined():
    for many in ([], [Dense(shared()), Dense(samples.small_corpus())]):
        for kind in (Fused, Weighted):
            with pytest.raises(ValueError, match="same corpus"):
                kind(many)


def test_weights_are_checked():
    inner = [Dense(shared()), BM25(shared())]
    for bad in ([1], [1, -1], [np.nan, 1], [0, 0]):
        with pytest.raises(RagdemoError, match="weight"):
            Weighted(inner, bad)
    with pytest.raises(RagdemoError, match="min-max, z"):
        Weighted(inner, scale="log")


@pytest.mark.parametrize("scale", ["min-max", "z"])
def test_all_the_weight_on_one_is_that_one(scale):
    corpus = manual()
    found = Weighted([Dense(corpus), BM25(corpus)], [1, 0], scale=scale)
    cosine = {h.chunk.id: h.score for h in Dense(corpus).search(QUESTION, len(corpus.chunks))}
    wanted = [h.score for h in Dense(corpus).search(QUESTION, 10)]
    got = [cosine[h.chunk.id] for h in found.search(QUESTION, 10)]
    assert got == pytest.approx(wanted, abs=1e-6)


def test_cross_encoder(tmp_path):
    from sentence_transformers import CrossEncoder

    folder = tiny_models.cross_encoder(tmp_path)
    corpus = manual()
    found = create("reranked", corpus, model=folder, depth=12)
    hits = found.search(QUESTION, 5)
    check(found, hits, 5)
    candidates = Dense(corpus).search(QUESTION, 12)
    plain = CrossEncoder(folder, device="cpu")
    wanted = {
        h.chunk.id: float(plain.predict([(QUESTION, h.chunk.content)])[0]) for h in candidates
    }
    assert [h.score for h in hits] == pytest.approx(
        sorted(wanted.values(), reverse=True)[:5], abs=1e-5
    )
    for hit in hits:
        assert hit.score == pytest.approx(wanted[hit.chunk.id], abs=1e-5)
        assert hit.parts["dense"] in {h.score for h in candidates}
    assert np.isfinite(found.scores(QUESTION)).sum() == 12


def test_models_that_are_no_rerankers(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelUnavailable, match="gives one"):
        CrossEncoderScorer(tiny_models.cross_encoder(tmp_path, labels=3))
    with pytest.raises(ModelUnavailable, match="could not be loaded"):
        CrossEncoderScorer(str(tmp_path / "nothing"))
    with pytest.raises(ModelUnavailable, match="Choose ragdemo-mini"):
        create("reranked", shared(), generator=object())


def test_a_judge_gone_wrong_is_said():
    class Broken:
        name = "broken"

        def __call__(self, question, chunks):
            return [np.nan] * len(chunks)

    with pytest.raises(ModelUnavailable, match="re-ranker broken"):
        Reranked(Dense(shared()), Broken()).search(QUESTION, 2)


def test_question_likelihood_is_the_generators():
    corpus = shared()
    found = create("reranked", corpus, generator=samples.mini())
    for hit in found.search(QUESTION, 3):
        (alone,) = samples.mini().question_log_likelihood(QUESTION, [hit.chunk])
        assert hit.score == pytest.approx(alone, abs=0.1)  # bf16 in another batch
        assert hit.score < 0


# -- neighbours


def test_a_hit_brings_what_stands_beside_it():
    corpus = hashed(*samples.FILES, LAMPS, tokens=16)
    place = {c.id: i for i, c in enumerate(corpus.chunks)}
    (inner,) = BM25(corpus).search("whale oil", 1)
    (hit,) = Neighbours(BM25(corpus), around=1).search("whale oil", 1)
    at = place[inner.chunk.id]
    beside = [c for c in corpus.chunks[at - 1 : at + 2] if c.document_id == inner.chunk.document_id]
    assert len(beside) > 1
    assert (hit.chunk.start, hit.chunk.end) == (beside[0].start, beside[-1].end)
    assert hit.chunk.tokens == corpus.encoder.count_tokens([hit.chunk.content])[0]
    assert hit.score == inner.score


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 5), st.integers(1, 60), st.sampled_from(["rope and tar", "leave", "phone"]))
def test_neighbours_never_repeat_text_and_never_leave_a_hit_out(around, k, question):
    corpus = _lamps()
    inner = BM25(corpus).search(question, k)
    found = Neighbours(BM25(corpus), around=around)
    hits = found.search(question, k)
    check(found, hits, k)
    spans = sorted((h.chunk.document_id, h.chunk.start, h.chunk.end) for h in hits)
    for (a, _, end), (b, start, _) in pairwise(spans):
        assert a != b or end <= start
    for one in inner:
        assert any(
            h.chunk.document_id == one.chunk.document_id
            and h.chunk.start <= one.chunk.start
            and one.chunk.end <= h.chunk.end
            for h in hits
        )
    if hits:  # the best comes first, whatever it was joined with
        best = hits[0].chunk
        assert best.document_id == inner[0].chunk.document_id
        assert best.start <= inner[0].chunk.start < inner[0].chunk.end <= best.end
    # every chunk's score, by brute force
    scores, raw = found.scores(question), BM25(corpus).scores(question)
    for i, chunk in enumerate(corpus.chunks):
        near = range(max(0, i - around), min(len(raw), i + around + 1))
        wanted = max(raw[j] for j in near if corpus.chunks[j].document_id == chunk.document_id)
        assert scores[i] == wanted


@cache
def _lamps() -> Corpus:
    return hashed(*samples.FILES, LAMPS, tokens=16)


def test_nothing_goes_around_neighbours():
    corpus = _lamps()
    for outer in (
        lambda r: create("mmr", corpus, inner=r),
        lambda r: create("neighbours", corpus, inner=r),
    ):
        with pytest.raises(RagdemoError, match="Put 'neighbours' around"):
            outer(Neighbours(BM25(corpus))).search("rope and tar", 3)


# -- query expansion


def test_hyde_searches_with_the_closed_book_answer():
    from ragdemo.pipeline import answer

    corpus = shared()
    written = answer(QUESTION, [], samples.mini()).text
    assert written
    found = HyDE(Dense(corpus), samples.mini(), keep_question=False)
    assert found.query(QUESTION) == written
    wanted = [(h.chunk.id, h.score) for h in Dense(corpus).search(written, 4)]
    assert [(h.chunk.id, h.score) for h in found.search(QUESTION, 4)] == wanted
    assert HyDE(Dense(corpus), samples.mini()).query(QUESTION) == f"{QUESTION} {written}"


def test_phrasings_of_a_question():
    found = Phrasings(BM25(shared()))
    said = found.phrasings("How many days of annual leave do I get?")
    assert said["as asked"] == "How many days of annual leave do I get?"
    assert said["keywords"] == "days annual leave get"
    assert said["statement"] == "I get days of annual leave"
    assert said["heading"].endswith(said["as asked"])
    assert said["vocabulary"].startswith("days annual leave get ")
    assert "employees" in said["vocabulary"]  # from the passage itself
    hit = found.search("How many days of annual leave do I get?", 1)[0]
    assert set(hit.parts) <= set(said)
    assert "annual leave" in hit.chunk.text


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("What is the notice period?", "the notice period is"),
        ("Who was the first director", "the first director was"),
        ("When must I return my laptop?", "I must return my laptop"),
        ("Can an employee work abroad?", "an employee can work abroad"),
        ("Does the company pay?", "the company pay"),
        ("Which grade may book a rail ticket?", "grade may book a rail ticket"),
        ("How many days may I carry over?", "I may carry over days"),
        ("Who approves roaming?", "approves roaming"),
        ("leave", "leave"),
        ("Phones", "Phones"),
    ],
)
def test_statements(question, said):
    assert statement(question) == said


@given(st.text(max_size=80))
@settings(max_examples=200, deadline=None)
def test_statements_of_anything(question):
    assert isinstance(statement(question), str)


# -- why it matched


def test_matched_words_of_bm25_are_marked_where_they_stand():
    found = BM25(shared())
    hit = found.search("reporting lost phones", 1)[0]
    matches = matched_terms(hit.parts, hit.chunk.text, found.terms)
    marked = {hit.chunk.text[m.span.start : m.span.end].lower(): m for m in matches}
    assert {"reported", "lost", "phone"} <= set(marked)
    assert marked["phone"].word == "phones"
    assert marked["phone"].weight == hit.parts["phones"]
    assert {m.word for m in matches} == set(hit.parts)
    assert matches == sorted(matches, key=lambda m: m.span.start)


def test_matched_words_of_dense():
    question, text = (
        "Where do I report a lost cellphone?",
        "A lost phone is reported to the IT desk. Soup.",
    )
    matches = matched_tokens(samples.encoder(), question, text)
    by_word = {text[m.span.start : m.span.end]: m for m in matches}
    assert list(by_word) == "A lost phone is reported to the IT desk Soup".split()
    assert by_word["phone"].word == "cellphone"
    assert by_word["lost"].word == "lost"
    assert by_word["phone"].weight > by_word["Soup"].weight + 0.1
    assert all(-1.001 <= m.weight <= 1.001 for m in matches)
    itself = matched_tokens(samples.encoder(), text, text)
    for m in itself:
        if text[m.span.start : m.span.end] == m.word:
            assert m.weight == pytest.approx(1, abs=0.03)  # bf16
    assert matched_tokens(samples.encoder(), "?", "🙂") == []


def test_an_encoder_without_words_says_so():
    with pytest.raises(RagdemoError, match="sentence-transformers"):
        matched_tokens(HashingEncoder(), "a", "b")
