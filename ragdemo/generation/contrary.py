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

_NOT = (
    r"\b(?:not|never|no|non|none|nobody|nothing|neither|nor|without|cannot|except|unable"
    r"|fail(?:s|ed|ing|ure)?|refus(?:e|es|ed|al)|reject(?:s|ed)?|lack(?:s|ed|ing)?)\b|n['’]t\b"
)
# what says so in other words, where a question's "not" may find its answer
_ALMOST_NOT = (
    r"|\b(?:fail|lack|refus|reject|den[yi]|prohibit|forb|prevent|avoid|exclu)\w*"
    r"|\b(?:only|instead|rather|few|little|hardly|rarely)\b"
)
_LEAST = r"(?<!\bat )\b(?:least|less|fewest|rarely|seldom|worst)\b"
_ALMOST_LEAST = (
    r"|\b(?:few|rare|low|small|minor|poor|short|weak|reduc|decreas|declin)\w*|\b(?:little|not?)\b"
)
# (what a question says, what its sentence would have to say)
_UNSAID = tuple(
    (re.compile(asked, re.IGNORECASE), re.compile(asked + almost, re.IGNORECASE))
    for asked, almost in ((_NOT, _ALMOST_NOT), (_LEAST, _ALMOST_LEAST))
)
_UN = re.compile(r"(?:un|in|im|il|ir|dis)-?(\w{5})\w*")  # "unconnected", beside "connect"

_PAIRS = (
    "first last|before after|most least|more fewer|more less|highest lowest|largest smallest|"
    "biggest smallest|oldest youngest|oldest newest|longest shortest|fastest slowest|north south|"
    "east west|northern southern|eastern western|northeast southwest|northwest southeast|"
    "begin end|began ended|start stop|started stopped|start finish|beginning end|open close|"
    "opened closed|increase decrease|increased decreased|increasing decreasing|rise fall|"
    "rose fell|grew shrank|expanded shrank|raise lower|raised lowered|minimum maximum|early late|"
    "earlier later|earliest latest|old new|older younger|older newer|ancient modern|male female|"
    "men women|man woman|boys girls|husband wife|father mother|son daughter|brother sister|"
    "king queen|public private|internal external|inner outer|win lose|won lost|winner loser|"
    "victory defeat|above below|founded abolished|established abolished|joined left|enter leave|"
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
    "push pull|upper lower|top bottom|front back|near far|add remove|added removed|"
    "include exclude|included excluded|including excluding|connected separated|united divided|"
    "same different|similar different|alike different|success failure|successful unsuccessful|"
    "succeeded failed|legal illegal|popular unpopular|known unknown|important unimportant|"
    "safe dangerous|religious secular|liberal conservative|democrats republicans|"
    "democratic republican|catholic protestant|civil military|day night|morning evening|"
    "summer winter|sunrise sunset|deep shallow|wide narrow|thick thin|full empty|"
    "appeared disappeared|discovered lost|borrow lend|teach learn|encourage discourage|"
    "encouraged discouraged|strengthen weaken|strengthened weakened|improve worsen|"
    "improved worsened|import export|imports exports|imported exported|maximize minimize|"
    "profit loss|supply demand|employer employee|voluntary mandatory|optional required|"
    "temporary permanent|active passive|visible invisible|advantage disadvantage|"
    "advantages disadvantages|benefit harm|benefits drawbacks|predecessor successor|"
    "preceded succeeded|precede follow|preceded followed|entrance exit|arrival departure|"
    "offer refuse|offered refused|remember forget|love hate|liked disliked|praised criticized|"
    "praise criticism|hired fired|promoted demoted|freed imprisoned|freed captured|"
    "released captured|released arrested|lent borrowed|opening closing|strength weakness|"
    "strengths weaknesses|support opposition|supports opposes|supporting opposing|live die|"
    "lived died|lives dies|living dead|defended conquered|captured lost|save kill|saves kills|"
    "saved killed|healthy infected|healthy sick|healthy ill|heat cold|promote prevent|"
    "promote discourage|promotes discourages|promoted discouraged|expensive cheap|costly cheap|"
    "theoretical practical|abstract concrete|natural artificial|growth decline|grow decline|"
    "grow shrink|grew declined|increase decline|increased declined|rise decline|rose declined|"
    "rising falling|rising declining|surplus deficit|surplus shortage|land sea|backward forward|"
    "vertical horizontal|left right|single multiple|interior exterior|expand contract|"
    "expansion contraction|combine separate|combined separated|together apart|"
    "together separately|jointly separately|appear disappear|appears disappears|arrive depart|"
    "arrive leave|gains losses|gain loss|simple complicated|original revised|former current|"
    "former latter|previous next|previous following|past future|recent ancient|"
    "historical contemporary|traditional modern|wild domesticated|wild domestic|solid liquid|"
    "innocent guilty|wins loses|wins defeats|retreat advance|retreated advanced|started finished|"
    "starts ends|start end|began finished|begins ends|commence end|commenced ended|"
    "launched ended|established dissolved|founded dissolved|formed dissolved|formed disbanded|"
    "created dissolved|created abolished|allow ban|allowed banned|permit ban|permitted banned|"
    "permit prohibit|permits prohibits|allows prohibits|allows prevents|allow restrict|"
    "allowed restricted|accept refuse|accepted refused|agree refuse|agreed refused|"
    "approves rejects|accepts rejects|granted denied|grant deny|confirm deny|confirmed denied|"
    "admit deny|admitted denied|appointed dismissed|input output|inputs outputs|send receive|"
    "sends receives|sent received|sender receiver|give take|gives takes|gave took|given taken|"
    "give receive|gives receives|gave received|given received|save spend|earned spent|"
    "construct destroy|constructed destroyed|constructed demolished|construction demolition|"
    "construction destruction|creation destruction|create destroy|creates destroys|build destroy|"
    "narrowest widest|weakest strongest|poorest richest|poorest wealthiest|lightest heaviest|"
    "coldest warmest|coldest hottest|driest wettest|nearest farthest|closest farthest|"
    "quickly slowly|rapidly slowly|rapid slow|quick slow|rapid gradual|sudden gradual|"
    "frequently rarely|often rarely|often seldom|frequent rare|usually rarely|mostly rarely|"
    "widespread rare|abundant scarce|densely sparsely|dense sparse|heavily lightly|"
    "inland coastal|upstream downstream|hero villain|amateur professional|"
    "conservative progressive|leader follower|leaders followers|teacher student|"
    "teachers students|employers employees|landlord tenant|buyer seller|host guest|many none|"
    "all none|everyone nobody|everything nothing|everywhere nowhere|liked hated|likes opposes|"
    "favor oppose|favored opposed|criticized supported|criticism support|trust distrust|"
    "honest dishonest|friendly hostile|peaceful violent|voluntary forced|free slave|"
    "free enslaved|centralized decentralized|smallest greatest|minimal maximal|lowest greatest|"
    "fewest most|first final|initial final|initially finally|strict relaxed|strict lenient|"
    "strict loose|tight loose|rough smooth|flexible rigid|fixed variable|constant variable|"
    "static dynamic|stationary moving|mobile stationary|heated cooled|heating cooling|warm cold|"
    "warming cooling|melting freezing|evaporation condensation|inhaled exhaled|actor actress|"
    "prince princess|emperor empress|uncle aunt|nephew niece|indoor outdoor|indoors outdoors|"
    "underground surface|secret public|secretly openly|explicit implicit|west eastern|"
    "east western|north southern|south northern|northward southward|eastward westward"
)
OPPOSITES: dict[str, list[str]] = defaultdict(list)
for _pair in _PAIRS.split("|"):
    _one, _other = _pair.split()
    OPPOSITES[_one].append(_other)
    OPPOSITES[_other].append(_one)


def contrary(question: str, sentence: str) -> bool:
    """The question negates, or asks for the least, and nothing in the sentence does; or it does
    neither, and has a word that the sentence has not, whose opposite the sentence has."""
    for asked, said in _UNSAID:
        if asked.search(question):
            return not said.search(sentence)
    heard = {*words(sentence)}
    own = {*words(question)} - heard
    if any(not heard.isdisjoint(OPPOSITES.get(word, ())) for word in own):
        return True
    undone = tuple(found[1] for word in own if (found := _UN.fullmatch(word)))
    return any(word.startswith(undone) for word in heard)
