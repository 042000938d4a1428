"""What each box of the pipeline does, three times: for a child, for a reader, as a formula."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Formula:
    latex: str
    where: str  # what the letters stand for; Markdown
    paper: str
    address: str


@dataclass(frozen=True, slots=True)
class Box:
    """One part of the pipeline. Our own text, Markdown."""

    title: str
    sentence: str
    paragraph: str
    formula: Formula


BOXES: Mapping[str, Box] = {
    "question": Box(
        "Question",
        "You ask in your own words, and the words are cut into pieces that a computer can count.",
        "A model has a fixed vocabulary of about 30,000 pieces, each with a number. A common word "
        "is one piece; a rare one falls apart into several (“##” marks a piece that goes on with "
        "the word before it). From here on there are only numbers. `[CLS]` and `[SEP]` are the "
        "marks for beginning and end.",
        Formula(
            r"t_i = \underset{v \,\in\, V,\; v \text{ begins the rest}}{\arg\max}\; |v|",
            "From the left, each token $t_i$ is the longest entry $v$ of the vocabulary $V$ that "
            "the rest of the word begins with (WordPiece).",
            "Wu et al. 2016",
            "https://arxiv.org/abs/1609.08144",
        ),
    ),
    "query encoder": Box(
        "Question encoder",
        "The question becomes an arrow that points to where its meaning lies.",
        "A small transformer reads all tokens at once, gives each a list of 384 numbers that knows "
        "its neighbours, and takes their mean. The result is one vector of length 1. No single "
        "number means anything you could name; what counts is the direction. Questions that mean "
        "the same point the same way.",
        Formula(
            r"q = \frac{\bar h}{\lVert \bar h \rVert}, \qquad "
            r"\bar h = \frac{1}{n} \sum_{i=1}^{n} h_i",
            "$h_i$: the transformer's last state of token $i$, 384 numbers; $n$ tokens; $q$: the "
            "question's vector.",
            "Reimers and Gurevych 2019 (Sentence-BERT)",
            "https://arxiv.org/abs/1908.10084",
        ),
    ),
    "chunks": Box(
        "Chunks",
        "Long documents are cut into short passages, like cards in a box.",
        "A whole document is about too many things to be compared with one question, and too long "
        "for the models. So it is cut along its headings, paragraphs and sentences into passages "
        "of about 200 tokens; neighbours overlap a little, so that a thought on the border is "
        "whole in one of them. Where a passage ends decides what can be found.",
        Formula(
            r"n \approx \left\lceil \frac{N - o}{L - o} \right\rceil",
            "$N$ tokens of text give about $n$ passages of at most $L$ tokens with an overlap of "
            "$o$; headings add some. The first dense retrievers used blocks of 100 words.",
            "Karpukhin et al. 2020 (DPR), section 4.1",
            "https://arxiv.org/abs/2004.04906",
        ),
    ),
    "passage encoder": Box(
        "Passage encoder",
        "Every passage becomes an arrow too, before anybody asks.",
        "Passages are encoded once, when a document is added. Here the same network reads question "
        "and passage; DPR has two, one for each. It was trained on pairs that belong together: the "
        "vectors of a pair are pulled towards each other and away from all others in the batch.",
        Formula(
            r"\mathcal{L} = -\log \frac{e^{\,q \cdot p^{+} / \tau}}"
            r"{e^{\,q \cdot p^{+} / \tau} + \sum_{j} e^{\,q \cdot p_j^{-} / \tau}}",
            "$p^{+}$: the passage that belongs to question $q$; $p_j^{-}$: others of the batch; "
            "$\\tau$: temperature, 1/20 for this encoder.",
            "Karpukhin et al. 2020 (DPR)",
            "https://arxiv.org/abs/2004.04906",
        ),
    ),
    "index": Box(
        "Index",
        "The question's arrow is laid beside every passage's to see which point the same way.",
        "The index holds all vectors and compares the question with them. With some hundred "
        "passages every one is compared exactly; with millions, an index such as HNSW looks only "
        "where it is promising. The dashed line is the floor: what a nonsense question reaches on "
        "the same documents. A passage near it says nothing.",
        Formula(
            r"s(q, p) = q \cdot p = \cos(q, p) = 1 - \tfrac{1}{2} \lVert q - p \rVert^2",
            "For vectors of length 1, the inner product, the cosine and the distance give the same "
            "order.",
            "Johnson et al. 2017 (FAISS)",
            "https://arxiv.org/abs/1702.08734",
        ),
    ),
    "top k": Box(
        "Top k",
        "The few best cards are taken out of the box.",
        "The k passages with the highest score go on, all others are out of the game: what is not "
        "among them can't be in the answer. Search always finds k passages, also where none of "
        "them says anything about the question. More passages miss less, but bring more noise and "
        "cost more of the prompt.",
        Formula(
            r"Z_k = \underset{Z \subset P,\; |Z| = k}{\arg\max} \; \sum_{p \in Z} s(q, p)",
            "$P$: all passages; $Z_k$: those that go on. RAG calls the retriever "
            "$p_\\eta(z|x)$ and keeps its top k.",
            "Lewis et al. 2020 (RAG)",
            "https://arxiv.org/abs/2005.11401",
        ),
    ),
    "fusion": Box(
        "Fusion",
        "The cards and the question are put together into what the writer reads.",
        "Models read a limited number of tokens, the budget. Either all passages stand one after "
        "another in one prompt, as many as fit; or each is encoded alone with the question and the "
        "decoder reads all of them at once; or an answer is written from each and weighed.",
        Formula(
            r"H = [\,\mathrm{enc}(x, z_1);\, \ldots;\, \mathrm{enc}(x, z_k)\,], \qquad "
            r"p(y \mid x, Z) = \prod_t \mathrm{dec}(y_t \mid y_{<t}, H)",
            "Fusion-in-decoder, as the bundled model does it: each passage $z_i$ is encoded with "
            "the question $x$; the decoder attends to all states $H$.",
            "Izacard and Grave 2021",
            "https://arxiv.org/abs/2007.01282",
        ),
    ),
    "generator": Box(
        "Generator",
        "The writer picks one piece of a word after another, each time the likeliest.",
        "For each next token the model gives every entry of its vocabulary a probability. Greedy "
        "decoding takes the highest. Temperature flattens or sharpens the distribution, top-p "
        "keeps only the likeliest tokens that hold that share together. The bundled model mixes "
        "two ways: writing a word of its own, and copying one from a passage.",
        Formula(
            r"p_T(v) = \frac{p(v)^{1/T}}{\sum_{u} p(u)^{1/T}}, \qquad "
            r"p = g \, p_{\text{vocab}} + (1 - g) \sum_{i:\, t_i = v} a_i",
            "$T$: temperature; top-p keeps the smallest set of likeliest $v$ that holds $p$. At "
            "the right the bundled model's mixture: $g$ its share of own words, $a_i$ the "
            "attention on source token $t_i$ (pointer-generator, See et al. 2017).",
            "Holtzman et al. 2020 (nucleus sampling)",
            "https://arxiv.org/abs/1904.09751",
        ),
    ),
    "answer": Box(
        "Answer",
        "Then we check on which card each sentence stands.",
        "Each sentence of the answer is compared with the passages and cites the one that bears it "
        "out. Two ways show what the answer rests on: where the model's attention went while it "
        "wrote, and what the answer loses when a passage is left out. The second asks the model "
        "itself, so it is the better evidence; attention only shows where it looked.",
        Formula(
            r"\Delta_i = \log p(y \mid x, Z) - \log p(y \mid x, Z \setminus \{z_i\})",
            "How much less likely the answer $y$ becomes without passage $z_i$. 0: it did not "
            "matter. In nats: 0.7 halves the probability, 2.3 makes it a tenth.",
            "Cohen-Wang et al. 2024 (ContextCite)",
            "https://arxiv.org/abs/2409.00729",
        ),
    ),
}

FUSIONS: Mapping[str, Formula] = {
    "in decoder": BOXES["fusion"].formula,
    "together": Formula(
        r"p(y \mid x, Z) = \prod_t \mathrm{LM}\big(y_t \mid [\,z_1; \ldots; z_m; x\,], y_{<t}\big)",
        "The first $m$ passages that fit stand before the question $x$ in one text.",
        "Ram et al. 2023 (In-Context RALM)",
        "https://arxiv.org/abs/2302.00083",
    ),
    "marginalise": Formula(
        r"p(y \mid x) = \sum_{z \in Z_k} p(z \mid x) \, p(y \mid x, z)",
        "Each answer $y$ is weighed under every passage $z$ (RAG-Sequence).",
        "Lewis et al. 2020 (RAG)",
        "https://arxiv.org/abs/2005.11401",
    ),
}
