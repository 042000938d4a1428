"""A question that says the contrary of the sentence it is asked of.

"Which empires did not thrive?" is rarely answered by a sentence that tells of those which did, and
"Who lost the battle?" by one that says who won. A good part of SQuAD 2.0's unanswerable questions
were made so (Rajpurkar et al. 2018, https://arxiv.org/abs/1806.03822, table 1: negation, antonym).
What it adds to the log odds of "not here" is counted as for `strange` names.
"""

from __future__ import annotations

import re
from collections import defaultdict

from ragdemo.text import words

_NOT = r"\b(?:not|never|no|none|nobody|nothing|neither|nor|without|cannot|except)\b|n['’]t\b"
# what says so in other words, where a question's "not" may find its answer
_ALMOST = (
    r"|\b(?:unable|fail|lack|refus|reject|den[yi]|prohibit|forb|prevent|avoid|exclu)\w*"
    r"|\b(?:only|instead|rather|few|little|hardly|rarely)\b"
)
_NEGATES = re.compile(_NOT, re.IGNORECASE)
_ALMOST_NEGATES = re.compile(_NOT + _ALMOST, re.IGNORECASE)

_PAIRS = (
    "first last|before after|most least|more fewer|more less|highest lowest|largest smallest|"
    "biggest smallest|oldest youngest|oldest newest|longest shortest|fastest slowest|"
    "north south|east west|northern southern|eastern western|northeast southwest|"
    "northwest southeast|begin end|began ended|start stop|started stopped|start finish|"
    "beginning end|open close|opened closed|increase decrease|increased decreased|"
    "increasing decreasing|rise fall|rose fell|grew shrank|expanded shrank|raise lower|"
    "raised lowered|minimum maximum|early late|earlier later|earliest latest|old new|"
    "older younger|older newer|ancient modern|male female|men women|man woman|boys girls|"
    "husband wife|father mother|son daughter|brother sister|king queen|"
    "public private|internal external|inner outer|win lose|won lost|winner loser|victory defeat|"
    "above below|founded abolished|established abolished|joined left|enter leave|"
    "entered left|arrived left|arrived departed|large small|larger smaller|big small|long short|"
    "longer shorter|high low|higher lower|tall short|rich poor|richer poorer|wealthy poor|"
    "strong weak|stronger weaker|buy sell|bought sold|cause prevent|caused prevented|"
    "allow prevent|allowed forbidden|allow forbid|allowed prohibited|permitted prohibited|"
    "always never|inside outside|accepted rejected|accept reject|approved rejected|gain lose|"
    "gained lost|positive negative|major minor|common rare|common uncommon|likely unlikely|"
    "possible impossible|true false|can cannot|did didn't|does doesn't|best worst|better worse|"
    "good bad|born killed|born died|birth death|alive dead|built destroyed|built demolished|"
    "created destroyed|parents children|many few|majority minority|fast slow|faster slower|"
    "hot cold|hotter colder|warm cool|warmer cooler|wet dry|light dark|light heavy|hard soft|"
    "hard easy|difficult easy|simple complex|rural urban|domestic foreign|local foreign|"
    "national international|support oppose|supported opposed|supporters opponents|"
    "agreed disagreed|agree disagree|friend enemy|ally enemy|allies enemies|war peace|"
    "attack defend|attacked defended|attacking defending|offensive defensive|offense defense|"
    "push pull|upper lower|top bottom|front back|near far|"
    "add remove|added removed|include exclude|included excluded|including excluding|"
    "connected separated|united divided|same different|similar different|alike different|"
    "success failure|successful unsuccessful|succeeded failed|legal illegal|popular unpopular|"
    "known unknown|important unimportant|safe dangerous|religious secular|liberal conservative|"
    "democrats republicans|democratic republican|catholic protestant|civil military|"
    "day night|morning evening|summer winter|sunrise sunset|deep shallow|wide narrow|"
    "thick thin|full empty|appeared disappeared|discovered lost|borrow lend|teach learn|"
    "encourage discourage|encouraged discouraged|strengthen weaken|strengthened weakened|"
    "improve worsen|improved worsened|import export|imports exports|imported exported|"
    "maximize minimize|profit loss|supply demand|employer employee|voluntary mandatory|"
    "optional required|temporary permanent|active passive|visible invisible|"
    "advantage disadvantage|advantages disadvantages|benefit harm|benefits drawbacks|"
    "predecessor successor|preceded succeeded|precede follow|preceded followed|"
    "entrance exit|arrival departure|offer refuse|offered refused|remember forget|love hate|"
    "liked disliked|praised criticized|praise criticism|hired fired|promoted demoted|"
    "freed imprisoned|freed captured|released captured|released arrested|lent borrowed"
)
OPPOSITES: dict[str, list[str]] = defaultdict(list)
for _pair in _PAIRS.split("|"):
    _one, _other = _pair.split()
    OPPOSITES[_one].append(_other)
    OPPOSITES[_other].append(_one)


def contrary(question: str, sentence: str) -> bool:
    """The question negates and nothing in the sentence does; or it does not, and has a word that
    the sentence has not, whose opposite the sentence has."""
    if _NEGATES.search(question):
        return not _ALMOST_NEGATES.search(sentence)
    asked, said = {*words(question)}, {*words(sentence)}
    return any(not said.isdisjoint(OPPOSITES.get(word, ())) for word in asked - said)
