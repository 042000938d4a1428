"""The settings of a question, in the sidebar: what to look up, how to write, who writes."""

from __future__ import annotations

import streamlit as st

from ragdemo import policy
from ragdemo.errors import RagdemoError
from ragdemo.fusion import FUSIONS, at_work, why_not
from ragdemo.prompts import TEMPLATES
from ragdemo.serving import SharedGenerator
from ragdemo.settings import FUSED, ORDERS, Ask
from ragdemo.types import Decoding
from ragdemo.ui import cache, choosing, drawn
from ragdemo.ui.state import Visitor

KEEP = {"persist_state": "session"}  # else a switch of page forgets the value
MINI, HUB, ENDPOINT = "Bundled", "Hub", "Endpoint"
OWN = "your own"
OWN_START = "Passages:\n{passages}\n\n{history}Question: {question}\nAnswer:"


def sidebar(me: Visitor) -> None:
    """Draw the settings and put them into the visitor."""
    with st.sidebar:
        st.subheader("Settings", anchor=False)
        k = st.slider(
            "Passages to look up",
            1,
            20,
            Ask().k,
            key="k",
            help="How many passages the generator gets to read. More find more, and distract more.",
            **KEEP,
        )
        follow = st.checkbox(
            "Let a follow-up use earlier turns",
            key="follow",
            help="“And for managers?” then takes the question before it along.",
            **KEEP,
        )
        with st.expander("How passages are found", icon=":material/manage_search:"):
            choosing.one(me)
        with st.expander("How passages reach the generator", icon=":material/merge:"):
            fused = st.container()
        with st.expander("How the answer is written", icon=":material/edit_note:"):
            me.decoding = _decoding()
        with st.expander("Who writes it", icon=":material/smart_toy:"):
            _generator(me)
        with st.expander("Prompt template", icon=":material/description:"):
            template = _template(me)
        with fused:  # drawn now, placed above: it depends on the generator
            fusion, order = _fusion(me)
        me.ask = Ask(k, template, follow, fusion, order)


def _fusion(me: Visitor) -> tuple[str, str]:
    """(fusion, order) as `settings.Ask` names them."""
    generator = me.generator or cache.shared().generator
    if generator is None:  # the app has just been started and loads it
        st.caption("Ready in a moment.")
        return Ask().fusion, Ask().order
    together = at_work("together", generator)
    names = {"together": FUSIONS[together].title, "marginalise": FUSIONS["marginalise"].title}
    chosen = st.radio("Fusion", list(FUSED), format_func=names.get, key="fusion", **KEEP)
    if problem := why_not(at_work(chosen, generator), generator):
        drawn.text(problem, look="small")
        chosen = "together"
    way = FUSIONS[at_work(chosen, generator)]
    st.caption(f"{way.about} [Paper]({way.paper})")
    ordered = chosen == "together" and together == "together"
    order = st.selectbox(
        "Order of the passages", list(ORDERS), key="order", disabled=not ordered,
        help="Models use the beginning and the end of a long prompt best.", **KEEP,
    )  # fmt: skip
    if not ordered:
        st.caption("Each passage is read on its own here, so their order does not matter.")
    return chosen, order if ordered else ORDERS[0]


def _decoding() -> Decoding:
    usual = Decoding()
    sample = st.segmented_control(
        "Picking words",
        ["greedy", "sample"],
        default="greedy",
        required=True,
        key="picking",
        help="Greedy takes the likeliest word each time; sampling draws one by its probability.",
        **KEEP,
    )
    drawing = sample == "sample"
    temperature = st.slider(
        "Temperature", 0.1, 2.0, usual.temperature, 0.1, key="temperature", disabled=not drawing,
        help="Below 1 favours likely words, above 1 levels the odds.", **KEEP,
    )  # fmt: skip
    top_p = st.slider(
        "Top-p", 0.1, 1.0, usual.top_p, 0.05, key="top_p", disabled=not drawing,
        help="Draw only from the likeliest words that together have this probability.", **KEEP,
    )  # fmt: skip
    seed = st.number_input(
        "Seed", 0, 2**31 - 1, usual.seed, key="seed", disabled=not drawing,
        help="The same seed draws the same words again.", **KEEP,
    )  # fmt: skip
    tokens = st.slider(
        "Longest answer (tokens)", 16, 512, usual.max_tokens, 16, key="tokens",
        help="An answer that reaches this is cut, and says so.", **KEEP,
    )  # fmt: skip
    return Decoding(int(tokens), drawing, float(temperature), float(top_p), int(seed))


def _template(me: Visitor) -> str | None:
    if me.generator is me.tuned:
        st.caption("The bundled model reads question and passages without a template.")
        return None
    named = {"the model's own": None, **{name: name for name in TEMPLATES}, OWN: OWN}
    choice = st.selectbox(
        "Template", list(named), key="template", help="What stands around question and passages.",
        **KEEP,
    )  # fmt: skip
    if choice in TEMPLATES:
        st.caption(TEMPLATES[choice].about)
    if choice != OWN:
        return named[choice]
    return st.text_area(
        "Your template", OWN_START, key="own_template", max_chars=4000, height=180,
        help="Needs {passages} and {question}; {history} is optional.", **KEEP,
    )  # fmt: skip


def _generator(me: Visitor) -> None:
    kind = st.radio(
        "Generator", [MINI, HUB, ENDPOINT], key="generator",
        captions=["comes with the app", "a Hugging Face model", "any OpenAI-compatible address"],
        help="The same one writes both answers.", **KEEP,
    )  # fmt: skip
    if kind == MINI:
        me.generator = me.tuned
        st.caption("ragdemo-mini comes with the app: no download, no key, a plain CPU.")
        if me.tuned:
            st.caption("Yours is fine-tuned; the Fine-tuning page sets it back.")
    elif kind == HUB:
        _hub(me)
    else:
        _endpoint(me)
    if kind != MINI and me.generator is me.tuned:
        st.caption("Until it is ready, the bundled model answers.")
    elif me.generator is not None:
        st.markdown(":green[:material/check_circle:] In use:")
        st.text(me.generator.name)


def _hub(me: Visitor) -> None:
    from ragdemo.generation.hub import SUGGESTED, describe

    model = st.selectbox(
        "Model id", list(SUGGESTED), key="hub_model", accept_new_options=True,
        help="Any causal or encoder-decoder model with safetensors weights, or a local folder.",
        **KEEP,
    )  # fmt: skip
    if model in SUGGESTED:
        st.caption(SUGGESTED[model])
    with st.container(horizontal=True):
        look = st.button("Look it up", icon=":material/info:")
        use = st.button("Use it", icon=":material/download:")
    try:
        if look:
            with st.spinner("Asking the hub …"):
                card = describe(model)
            size = f"{card.download_bytes / 1e6:,.0f} MB" if card.download_bytes else "here already"
            st.text(
                f"Download: {size}\nMemory: about {card.memory_bytes / 1e6:,.0f} MB\n"
                f"Licence: {card.licence}\nKind: {card.kind}{', chat' if card.chat else ''}"
            )
        if use:
            with st.spinner("Fetching and loading; this can take minutes …"):
                me.generator = cache.hub_generator(model)
    except RagdemoError as problem:
        drawn.problem(problem)


def _endpoint(me: Visitor) -> None:
    from ragdemo.generation.openai import OpenAIGenerator

    usual = _secret()
    # a form: half a key is not worth a run, and nothing is kept before it is sent
    with st.form("endpoint", border=False):
        url = st.text_input("Base URL", usual.get("base_url", "https://api.openai.com/v1"))
        model = st.text_input("Model", usual.get("model", ""), placeholder="gpt-4o-mini")
        key = st.text_input(
            "Key", type="password", autocomplete="off", key=f"key-{me.keys}",
            help="Used for this visit only; never shown, logged, saved or exported.",
            placeholder="from the app's secrets" if usual.get("key") else "",
        )  # fmt: skip
        sent = st.form_submit_button("Use it", icon=":material/link:")
    if not policy.current().private_endpoints:
        st.caption(
            "Addresses inside this machine's own network, such as Ollama's, work where the app was "
            "started with `RAGDEMO_PRIVATE_ENDPOINTS=1`."
        )
    if not sent:
        return
    if not key and url == usual.get(
        "base_url"
    ):  # the owner's key goes to the owner's endpoint only
        key = usual.get("key", "")
    try:
        # behind a line of its own, where time-outs and the way out when somebody stops are
        me.generator = SharedGenerator(
            OpenAIGenerator(url, model, key, allow_private=False), remote=True
        )
    except RagdemoError as problem:
        me.generator = None
        drawn.problem(problem)
        return
    me.keys += 1  # an empty field: the key is in the generator now and nowhere else
    st.rerun()


def _secret() -> dict[str, str]:
    """`[endpoint]` of .streamlit/secrets.toml: base_url, model, key. {} without such a file."""
    try:
        return dict(st.secrets.get("endpoint", {}))
    except FileNotFoundError:
        return {}
