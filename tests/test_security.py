"""What the owner of a host allows, and what any outside bytes may do: end in a sentence.

The damage done to whole files is in the tests of each reader; here the damage lies deeper, in
files that are otherwise right.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import io
import json
import socket
import subprocess
import sys
import threading
import zipfile

import hostile_texts
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from samples import ROOT

from ragdemo import policy, report
from ragdemo.corpus import Corpus
from ragdemo.embedding.hashing import HashingEncoder
from ragdemo.errors import DocumentError, ModelUnavailable, RagdemoError
from ragdemo.evaluation.questions import read_questions
from ragdemo.generation import hub, run
from ragdemo.generation.openai import OpenAIGenerator
from ragdemo.generation.openai import Patience as EndpointPatience
from ragdemo.loading import load
from ragdemo.settings import Limits
from ragdemo.stores.remote import Patience, Service, permit
from ragdemo.text import clean
from ragdemo.types import Answer, Chunk, Comparison, Decoding, Document, Hit, Prompt

RIGHTS = ("hub", "folders", "remote_stores", "store_files")
NAMES = ("PUBLIC", "PRIVATE_ENDPOINTS", *map(str.upper, RIGHTS))


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch):
    for name in (*(f"RAGDEMO_{name}" for name in NAMES), *policy.HOSTED, "HOSTNAME"):
        monkeypatch.delenv(name, raising=False)


# -- the policy ----------------------------------------------------------------------------------


def test_at_home_everything_is_open_but_the_inner_network_from_a_page():
    assert policy.current({}) == policy.Policy()
    assert all(getattr(policy.current({}), right) for right in RIGHTS)
    assert not policy.current({}).permits("localhost", 11434)


@pytest.mark.parametrize(
    "env",
    [{"RAGDEMO_PUBLIC": "1"}, {"HOSTNAME": "streamlit"}, *({n: "x"} for n in policy.HOSTED)],
    ids=lambda env: next(iter(env)),
)
def test_on_a_public_host_everything_is_closed_until_its_owner_opens_it(env):
    closed = policy.current(env)
    assert closed.public
    for right in RIGHTS:
        assert not getattr(closed, right)
        variable = f"RAGDEMO_{right.upper()}"
        with pytest.raises(RagdemoError, match=f"{variable}=1"):
            closed.need(right)
        opened = policy.current({**env, variable: "yes"})
        opened.need(right)
        assert sum(getattr(opened, other) for other in RIGHTS) == 1
    assert policy.current({**env, "RAGDEMO_PUBLIC": "0"}) == policy.Policy()


def test_every_field_has_a_variable_and_a_line_in_security_md():
    told = (ROOT / "SECURITY.md").read_text("utf-8")
    for field in dataclasses.fields(policy.Policy):
        assert f"RAGDEMO_{field.name.upper()}" in told
    assert all(name in told for name in policy.HOSTED)


def test_a_typing_error_opens_nothing():
    with pytest.raises(RagdemoError, match="RAGDEMO_HUB must be 1 or 0, not 'ja'"):
        policy.current({"RAGDEMO_HUB": "ja"})


@pytest.mark.parametrize(
    ("said", "permitted"),
    [
        ("", []),
        ("0", []),
        ("1", []),
        ("LocalHost:11434, gpu", [("localhost", 11434), ("LOCALHOST", 11434), "gpu"]),
    ],
)
def test_private_endpoints_one_by_one(said, permitted):
    allowed = policy.current({"RAGDEMO_PRIVATE_ENDPOINTS": said})
    asked = [(host, port) for host in ("localhost", "LOCALHOST", "gpu") for port in (11434, 80, 22)]
    for host, port in [*asked, ("10.0.0.5", 80)]:
        wanted = said == "1" or (host, port) in permitted or host in permitted
        assert allowed.permits(host, port) == wanted


@pytest.mark.parametrize(
    "address",
    """127.0.0.1 10.1.2.3 172.16.0.1 192.168.1.1 100.64.0.1 0.0.0.0 169.254.169.254 224.0.0.1
    255.255.255.255 ::1 :: fd00:ec2::254 fe80::1%eth0 ff02::1 ::ffff:10.0.0.1 ::ffff:127.0.0.1
    64:ff9b::a00:1 2002:a00:1:: 2002:7f00:1::""".split(),
)
def test_addresses_inside(address):
    assert policy.is_inside(address)


@pytest.mark.parametrize("address", "8.8.8.8 1.1.1.1 2606:4700::1111 64:ff9b::808:808".split())
def test_addresses_outside(address):
    assert not policy.is_inside(address)
    assert not policy.gives_credentials(address)


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_judged_alike_in_every_ipv6_dress(ip):
    number = int(ip)
    for dressed in (
        f"::ffff:{ip}",
        f"64:ff9b::{number >> 16:x}:{number & 0xFFFF:x}",
        f"2002:{number >> 16:x}:{number & 0xFFFF:x}::",
    ):
        assert policy.is_inside(dressed) == policy.is_inside(str(ip))
        assert policy.gives_credentials(dressed) == policy.gives_credentials(str(ip))


# -- where it is enforced ------------------------------------------------------------------------


def test_a_public_host_neither_fetches_models_nor_tells_of_its_folders(monkeypatch, tmp_path):
    monkeypatch.setenv("RAGDEMO_PUBLIC", "1")
    said = set()
    for name in (
        str(tmp_path),
        str(tmp_path / "none"),
        "/etc",
        "~root",
        "../x",
        "C:\\x",
        "\\\\h\\x",
    ):
        for ask in (hub.describe, hub.fetch, hub.permit):
            with pytest.raises(RagdemoError, match="RAGDEMO_FOLDERS=1") as caught:
                ask(name)
            said.add(str(caught.value))
    assert len(said) == 1  # the same for a folder that exists and one that does not
    for ask in (hub.describe, hub.fetch, hub.permit):
        with pytest.raises(RagdemoError, match="RAGDEMO_HUB=1"):
            ask("gpt2")
    monkeypatch.chdir(ROOT)
    with pytest.raises(RagdemoError, match="RAGDEMO_HUB=1"):
        hub.describe("tests")  # a folder of this name is there, and that is nobody's business


def test_at_home_folders_and_the_hub_may_be_named(tmp_path):
    hub.permit("gpt2")
    hub.permit(str(tmp_path))
    with pytest.raises(ModelUnavailable, match="no complete model"):
        hub.describe(str(tmp_path))


class _Listener:
    """A port inside this machine that counts who knocks."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.knocks = 0
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._socket.accept()[0].close()
                self.knocks += 1

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def listener():
    made = _Listener()
    yield made
    made.close()


def _say(url: str, **options) -> None:
    patience = EndpointPatience(connect=2, read=2, total=4, retries=0)
    generator = OpenAIGenerator(url, "m", patience=patience, **options)
    run(generator, [generator.prompt("Why?", [], decoding=Decoding())], [Decoding()])


@pytest.mark.parametrize(
    "host", "127.0.0.1 localhost 0.0.0.0 [::ffff:127.0.0.1] 0177.0.0.1 2130706433".split()
)
def test_no_port_inside_is_even_knocked_at(listener, host):
    with pytest.raises(ModelUnavailable, match=r"own network|can't be reached"):
        _say(f"http://{host}:{listener.port}/v1", allow_private=False)
    assert listener.knocks == 0


def test_on_a_public_host_code_may_not_either_but_the_owner_may_name_one(listener, monkeypatch):
    url = f"http://127.0.0.1:{listener.port}/v1"
    with pytest.raises(ModelUnavailable, match="broke"):  # at home: code that names it gets there
        _say(url)
    assert listener.knocks == 1
    monkeypatch.setenv("RAGDEMO_PUBLIC", "1")
    with pytest.raises(ModelUnavailable, match=r"RAGDEMO_PRIVATE_ENDPOINTS=127\.0\.0\.1:"):
        _say(url, allow_private=True)
    monkeypatch.setenv("RAGDEMO_PRIVATE_ENDPOINTS", f"127.0.0.1:{listener.port + 1}")
    with pytest.raises(ModelUnavailable, match="own network"):
        _say(url)
    assert listener.knocks == 1
    monkeypatch.setenv("RAGDEMO_PRIVATE_ENDPOINTS", f"127.0.0.1:{listener.port}")
    with pytest.raises(ModelUnavailable, match="broke"):
        _say(url, allow_private=False)
    assert listener.knocks == 2


def test_a_wrong_variable_ends_the_request_with_a_sentence(listener, monkeypatch):
    monkeypatch.setenv("RAGDEMO_FOLDERS", "perhaps")
    with pytest.raises(ModelUnavailable, match="RAGDEMO_FOLDERS must be 1 or 0"):
        _say(f"http://127.0.0.1:{listener.port}/v1")


def _service(where: str) -> Service:
    return Service("Milvus", where, Patience(), passing=lambda e: False, refused=lambda e: False)


def test_a_store_that_a_stranger_names_lies_outside(monkeypatch):
    permit("Milvus", "https://8.8.8.8", allow_private=False)
    for where in ("http://localhost:19530", "http://[::1]:80", "grpc://10.0.0.1:1"):
        permit("Milvus", where)
        with pytest.raises(RagdemoError, match="own network"):
            permit("Milvus", where, allow_private=False)
    monkeypatch.setenv("RAGDEMO_PRIVATE_ENDPOINTS", "localhost:19530")
    permit("Milvus", "http://localhost:19530", allow_private=False)


def test_stores_as_the_owner_allows(monkeypatch):
    for where in ("vectors.db", "http://localhost:19530", "https://8.8.8.8"):
        _service(where)  # at home
    with pytest.raises(RagdemoError, match="own network"):
        _service("http://169.254.169.254")
    monkeypatch.setenv("RAGDEMO_PUBLIC", "1")
    with pytest.raises(RagdemoError, match="RAGDEMO_STORE_FILES=1"):
        _service("vectors.db")
    for where in ("http://localhost:19530", "https://8.8.8.8"):
        with pytest.raises(RagdemoError, match="RAGDEMO_REMOTE_STORES=1"):
            _service(where)
    monkeypatch.setenv("RAGDEMO_STORE_FILES", "1")
    monkeypatch.setenv("RAGDEMO_REMOTE_STORES", "1")
    _service("vectors.db")
    _service("https://8.8.8.8")
    with pytest.raises(RagdemoError, match="RAGDEMO_PRIVATE_ENDPOINTS=localhost:19530"):
        _service("http://localhost:19530")
    monkeypatch.setenv("RAGDEMO_PRIVATE_ENDPOINTS", "localhost:19530")
    _service("http://localhost:19530")
    with pytest.raises(RagdemoError, match="own network"):
        _service("http://169.254.169.254")
    for odd in ("http://[::1", "http://", "http://no-such-host.invalid", "http://a:99999"):
        _service(odd)  # the client library tells what is wrong


def test_the_policy_costs_nothing_to_import():
    code = "import ragdemo.policy, sys; print('torch' in sys.modules, 'requests' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False"]


# -- outside bytes -------------------------------------------------------------------------------

FAST = Limits(parse_seconds=3, parse_cpu_seconds=2, characters=20_000)
FUZZ = settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)  # a child process each
WHOLE = settings(max_examples=80, deadline=None)

LETTERS = st.characters(codec="utf-8", exclude_characters="<&", min_codepoint=32)
XML = st.recursive(
    st.one_of(
        st.text(LETTERS, max_size=8),
        st.sampled_from(["&amp;", "&#0;", "&#xD800;", "&x;", "<!-- -->", "<![CDATA[x]]>"]),
    ),
    lambda inner: st.builds(
        lambda tag, value, kids: f'<w:{tag} w:val="{value}">{"".join(kids)}</w:{tag}>',
        st.sampled_from(
            "p r t tbl tr tc rPr pPr tcPr vanish sz color gridSpan numPr numId sdt sdtContent ins "
            "del outlineLvl pStyle rStyle br footnoteReference".split()
        ),
        st.sampled_from(["", "1", "-1", "²", "9" * 30, "x", "a1"]),
        st.lists(inner, max_size=4),
    ),
    max_leaves=20,
)  # fmt: skip


def _sound(document: Document) -> None:
    """What is shown of a document can be shown."""
    for text in (document.name, document.text, *document.report.notes):
        assert clean(text)[0] == text
    spans = [*document.pages, *document.blocks]
    assert all(0 <= s.start <= s.end <= len(document.text) for s in spans)
    assert document.pages


@FUZZ
@given(st.lists(XML, max_size=5), st.lists(XML, max_size=2))
def test_any_word_markup_ends_in_a_document_or_in_a_sentence(body, styles):
    with contextlib.suppress(RagdemoError):
        _sound(load(hostile_texts.docx("".join(body), "".join(styles)), "a.docx", limits=FAST))


HTML = st.lists(
    st.one_of(
        st.text(max_size=8),
        st.builds(
            "<{}{} {}={!r}>".format,
            st.sampled_from(["", "/"]),
            st.sampled_from("p b table tr td th li pre h1 div nav script svg body br q:w".split()),
            st.sampled_from(["style", "hidden", "class"]),
            st.sampled_from(["display:none", "font-size:0", "color:#fff", "\ud800", "a" * 50]),
        ),
        st.sampled_from(["<!--", "-->", "<![", "<?", "&#xD800;", "&#0;", "<", "</", "\x00"]),
    ),
    max_size=40,
).map("".join)  # fmt: skip


@FUZZ
@given(HTML)
def test_any_tags_end_in_a_document_or_in_a_sentence(page):
    with contextlib.suppress(RagdemoError):
        _sound(load(page.encode("utf-8", "surrogatepass") or b" ", "a.html", limits=FAST))


OPERATORS = st.lists(
    st.one_of(
        st.builds(
            lambda op, numbers: f"{' '.join(map(str, numbers))} {op}".encode(),
            st.sampled_from("Td Tm Tr Tf Tc Tw Tz TL rg g k cm re f w m l S q Q BT ET Do".split()),
            st.lists(st.one_of(st.integers(-(10**9), 10**9), st.floats(-9e9, 9e9)), max_size=6),
        ),
        st.builds(lambda text: b"(%s) Tj" % text, st.binary(max_size=12)),
        st.builds(lambda text: b"[(%s) -200 (b)] TJ" % text, st.binary(max_size=6)),
        st.just(b"/F1 12 Tf"),
    ),
    max_size=30,
).map(b"\n".join)  # fmt: skip


@FUZZ
@given(OPERATORS)
def test_any_drawing_ends_in_a_document_or_in_a_sentence(drawing):
    data = hostile_texts.hidden_pdf(hostile_texts.SEEN, b"BT /F1 12 Tf " + drawing + b" ET")
    document = load(data, "a.pdf", limits=FAST)
    _sound(document)
    assert "Everybody reads" in document.text  # the page before it is not lost


CELLS = st.lists(
    st.lists(st.text(max_size=6), max_size=5).map(lambda row: ",".join(row)), max_size=8
).map("\n".join)


@WHOLE
@given(
    CELLS,
    st.sampled_from(["a.csv", "a.tsv", "a.md", "a.txt"]),
    st.sampled_from(["utf-8", "utf-16", "utf-7", "cp1252"]),
)
def test_any_table_or_text_ends_in_a_document_or_in_a_sentence(text, name, encoding):
    with contextlib.suppress(RagdemoError):
        _sound(load(text.encode(encoding, "replace") or b" ", name, limits=FAST))


JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just("\ud800"),
    st.just("\u202e"), st.just([]), st.just({}), st.just([[]]), st.just({"start": 0, "end": 9**9}),
    st.integers(10**20, 10**25), st.just("9" * 5000),
)  # fmt: skip


def _places(value, path=()):
    """Every path into a JSON value."""
    if path:
        yield path
    inner = dict(enumerate(value)) if isinstance(value, list) else value
    for key, held in inner.items() if isinstance(inner, dict) else ():
        yield from _places(held, (*path, key))


def altered(facts: dict, draw) -> str:
    """JSON with one to three values put wrong, left out or renamed."""
    made = json.loads(json.dumps(facts))
    for _ in range(draw(st.integers(1, 3))):
        if not (places := sorted(_places(made), key=str)):
            break
        *way, last = draw(st.sampled_from(places))
        at = made
        for key in way:
            at = at[key]
        how = draw(st.sampled_from(["put", "drop", "add"]))
        if how == "put":
            at[last] = copy.deepcopy(draw(JUNK))
        elif how == "drop":
            del at[last]
        elif isinstance(at, dict):
            at[draw(st.text(max_size=4))] = copy.deepcopy(draw(JUNK))
    return json.dumps(made)


ENCODER = HashingEncoder(16)


def _exported() -> tuple[dict, bytes]:
    corpus = Corpus(ENCODER)
    corpus.add(load(b"# Leave\n\nStaff get 28 days.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n", "l.md"))
    with zipfile.ZipFile(io.BytesIO(corpus.export())) as archive:
        return json.loads(archive.read("index.json")), archive.read("vectors.npy")


FACTS, VECTORS = _exported()


def index(facts: str, vectors: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("index.json", facts)
        archive.writestr("vectors.npy", vectors)
    return made.getvalue()


@pytest.mark.parametrize("shape", [(0, 16), (1, 16), (10**6, 16), (2, 2, 16), (16,)])
@pytest.mark.parametrize("kind", ["<f4", "<f8", "<i8", "<U3", "|O"])
def test_vectors_of_another_shape_or_kind_are_refused_or_searchable(shape, kind):
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        head, {"descr": kind, "fortran_order": False, "shape": shape}
    )
    data = index(json.dumps(FACTS), head.getvalue() + bytes(64))
    with contextlib.suppress(RagdemoError):
        Corpus.imported(data, ENCODER).search(ENCODER.encode_queries(["leave"])[0], 2)


def test_an_index_of_nothing_but_lists_is_refused_before_it_fills_the_memory():
    bomb = '{"format": [' + "[]," * 6_000_000 + "[]]}"
    data = index(bomb, VECTORS)
    with pytest.raises(DocumentError, match="not an index"):
        Corpus.imported(data, ENCODER)


LONG_RUNS = r"""
from itertools import product

from ragdemo.corpus import Corpus
from ragdemo.embedding import HashingEncoder
from ragdemo.errors import RagdemoError
from ragdemo.grounding import marked
from ragdemo.loading import load
from ragdemo.prompts import neutralise
from ragdemo.text import sentences, words

runs = [one * 40_000 for one in (*".-'a1 (|*\u2026\u00ad!)_<\n", "1,", "a-", ". ", "\n ", "a\n")]
frames = [("", "x"), ("a|b\n", "| ")]
for run, (begin, end) in product(runs, frames):
    text = begin + run + end
    sentences(text), words(text), neutralise(text), marked("a x 1", text)
    # a process is started for every HTML file, which takes most of the time
    for suffix in (".txt", ".md", ".csv", *([] if begin else [".html"])):
        try:
            Corpus(HashingEncoder(16)).add(load(text.encode(), "runs" + suffix))
        except RagdemoError:
            pass
print("all read")
"""


def test_no_long_run_of_one_character_holds_the_interpreter() -> None:
    """A regular expression that looks anew at every character takes minutes here, and no thread
    runs meanwhile. The bound is for those, it is no timing."""
    said = subprocess.run(
        [sys.executable, "-c", LONG_RUNS], cwd=ROOT, capture_output=True, text=True, timeout=240
    )
    assert said.stdout == "all read\n", said.stderr[-2000:]


def _comparison() -> dict:
    chunk = Chunk("d:0-5", "d", "d.md", "Leave", 0, 5, (1,))
    prompt = Prompt("Leave?", (Hit(chunk, 0.5, 1, "dense"),), (), {}, (), 100, text="Leave?")
    answer = Answer("Leave", prompt, "mini", 1, seconds={"decode": 0.1})
    made = Comparison(question="Leave?", hits=prompt.used, grounded=answer, baseline=answer)
    return json.loads(report.to_json(made))


COMPARISON = _comparison()


@WHOLE
@given(st.data())
def test_any_imported_comparison_is_refused_or_can_be_shown(data):
    try:
        made = report.from_json(altered(COMPARISON, data.draw))
    except RagdemoError:
        return
    report.to_html(made).encode()
    assert report.from_json(report.to_json(made)) == made


ROW = {
    "question": "Q?", "answer": "A", "short": ["a"], "file": "l.md", "pages": [1],
    "answerable": True, "kind": "k", "id": "1", "also": [{"file": "l.md", "pages": "2-4"}],
}  # fmt: skip


@WHOLE
@given(st.data())
def test_any_question_set_is_refused_or_can_be_shown(data):
    try:
        found = read_questions(altered(ROW, data.draw).encode(), "q.jsonl")
    except RagdemoError as problem:
        str(problem).encode()
        return
    for question in found:
        for text in (question.id, question.question, question.answer, question.file, question.kind):
            assert clean(text)[0] == text
        assert all(type(page) is int for page in question.pages)
