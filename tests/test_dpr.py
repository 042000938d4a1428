"""DPR's two towers with tiny real weights: numbers, order, and what is refused."""

import json

import numpy as np
import pytest
import samples
import tiny_models

from ragdemo.corpus import Corpus
from ragdemo.embedding import DPREncoder, HashingEncoder
from ragdemo.errors import Cancelled, ModelUnavailable
from ragdemo.retrieval import create
from ragdemo.retrieval.dense import Dense

TEXTS = ["employees get paid leave", "", "a lost mobile phone", "日本語 🙂", "the " * 60]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return tiny_models.dpr(tmp_path_factory.mktemp("dpr"))


@pytest.fixture(scope="module")
def encoder(pair):
    return DPREncoder(*pair)


@pytest.fixture
def corpus():
    made = Corpus(HashingEncoder())
    for name, data in samples.FILES:
        made.add(samples.document(name, data))
    return made


def test_vectors_are_the_towers_first_states(encoder, pair):
    """Against each tower's BERT read by hand, one text at a time."""
    import torch
    from transformers import AutoTokenizer, DPRContextEncoder, DPRQuestionEncoder

    for rows, folder, kind, inner in (
        (encoder.encode_queries(TEXTS), pair[0], DPRQuestionEncoder, "question_encoder"),
        (encoder.encode_passages(TEXTS), pair[1], DPRContextEncoder, "ctx_encoder"),
    ):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        bert = getattr(kind.from_pretrained(folder), inner).bert_model.eval()
        for row, text in zip(rows, TEXTS, strict=True):
            ids = tokenizer(text, truncation=True, max_length=24, return_tensors="pt")
            with torch.inference_mode():
                wanted = bert(**ids).last_hidden_state[0, 0].numpy()
            assert np.allclose(row, wanted, atol=1e-5)


def test_questions_and_passages_have_towers_of_their_own(encoder):
    assert not np.allclose(encoder.encode_queries(TEXTS), encoder.encode_passages(TEXTS), atol=0.1)
    assert encoder.similarity == "dot"
    assert encoder.limit == 24


def test_no_texts(encoder):
    assert encoder.encode_queries([]).shape == (0, 16)
    assert encoder.encode_passages([]).shape == (0, 16)


def test_tokens_are_counted_without_the_special_ones(encoder):
    assert encoder.count_tokens(["", "leave", "the lost phone", "the " * 60]) == [0, 1, 3, 60]


def test_scores_are_inner_products(encoder, corpus):
    found = Dense(corpus, encoder=encoder, name="dpr")
    hits = found.search("how many days of paid leave", 10)
    query = encoder.encode_queries(["how many days of paid leave"])[0]
    inner = {c.id: float(encoder.encode_passages([c.content])[0] @ query) for c in corpus.chunks}
    assert [h.chunk.id for h in hits] == sorted(inner, key=inner.get, reverse=True)
    for hit in hits:
        assert hit.score == pytest.approx(inner[hit.chunk.id], abs=1e-4)
        assert hit.parts == {"dot": hit.score}


def test_passages_are_encoded_once_and_new_ones_alone(encoder, corpus):
    seen = []
    found = create(
        "dpr", corpus, encoder=encoder, progress=lambda done, of: seen.append((done, of))
    )
    assert seen == []  # nothing before it is needed
    found.search("leave", 2)
    found.search("phone", 2)
    assert seen == [(len(corpus.chunks),) * 2]
    new = corpus.add(
        samples.document("new.md", b"# Sick\n\nEmployees report sick by mobile phone.")
    )
    assert new[0].id in {h.chunk.id for h in found.search("report sick", 10)}
    assert seen[1:] == [(len(new), len(new))]
    corpus.remove(new[0].document_id)
    assert new[0].id not in {h.chunk.id for h in found.search("report sick", 10)}
    assert len(seen) == 2


def test_stopped_half_way_leaves_it_as_it_was(encoder, corpus):
    def stop(done, of):
        raise Cancelled("stopped")

    found = Dense(corpus, encoder=encoder, progress=stop)
    with pytest.raises(Cancelled):
        found.prepare()
    found = Dense(corpus, encoder=encoder)
    assert len(found.search("leave", 50)) == len(corpus.chunks)


def test_a_pair_by_folders(pair, corpus):
    found = create("dpr", corpus, questions=pair[0], passages=pair[1])
    assert found.name == "dpr"
    assert len(found.search("leave", 3)) == 3


def test_what_cannot_be_had_says_what_to_do(tmp_path, monkeypatch, pair):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelUnavailable, match="Choose another pair"):
        DPREncoder(pair[0], str(tmp_path / "nothing"))
    with pytest.raises(ModelUnavailable, match="safetensors"):
        DPREncoder(*tiny_models.dpr(tmp_path, safe=False))


def test_towers_that_are_no_pair(tmp_path, pair):
    other = tiny_models.dpr(tmp_path, hidden_size=8)
    with pytest.raises(ModelUnavailable, match=r"16 numbers .* of 8"):
        DPREncoder(pair[0], other[1])


def test_a_model_of_another_kind_is_refused_not_filled_with_noise(tmp_path, pair):
    """transformers would load a plain BERT as DPR and make up every weight."""
    from transformers import BertConfig, BertModel

    BertModel(BertConfig(**tiny_models.SHAPE)).save_pretrained(tmp_path)
    tiny_models.tokenizer(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_type"] == "bert"
    with pytest.raises(ModelUnavailable, match=r"no DPRQuestionEncoder|could not be loaded"):
        DPREncoder(str(tmp_path), pair[1])
