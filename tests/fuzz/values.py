"""What inputs are made of: values that break things, and ways to spoil a message or a file."""

import copy
import json
from pathlib import Path

from hypothesis import strategies as st

CORPUS = [
    json.loads(line) for line in Path(__file__).with_name("training.jsonl").read_text().splitlines()
]
"""What a probe sent of a small GPT-2 on the CPU, and the messages that only a GPU brings."""

TEXTS = (
    *("", " ", "cpu", "cuda:0", "forward", "free", "nan", "0", "%s%n", "{0.__class__}"),
    *("\x1b[31mred", "\x1b]0;owned\x07", "\x9b2J", "two\r\nlines", "\0", "\t", "\u2028", "\x7f"),
    *("\u202egnp.exe", "\ud800", "[bold]", "[/]", "[/red]", "[@click=app.quit]x[/]", "$(reboot)"),
    *("漢" * 400, "e" + "\u0301" * 300, "👩\u200d🚀" * 9, "x" * 70_000, "../../etc/passwd"),
)
NUMBERS = (
    *(0, 1, -1, 2, 255, 2**31, 2**32 - 1, 2**53, 2**60 - 1, 2**60, 2**63, 2**64 - 1, 10**400),
    *(0.0, -0.0, 0.5, 1e-320, 1e308, -1e308, 5e10, 1e11, float("nan"), float("inf")),
)
OTHERS = (None, True, False, [], {}, [[]], [None], {"": None}, {"type": "sample"})


def hostile(random, like=None):
    """A value that nobody expects, oftenest of the kind of ``like``, so that it gets through."""
    kinds = [TEXTS, NUMBERS, OTHERS]
    if random.random() < 0.8:
        if isinstance(like, str):
            kinds = [TEXTS]
        elif isinstance(like, (int, float)) and not isinstance(like, bool):
            kinds = [[n for n in NUMBERS if 0 <= n < 2**60 and type(n) is type(like)]]
    return copy.deepcopy(random.choice(random.choice(kinds)))


def places(value, parent=None, key=None):
    """(container, key) of every value inside another."""
    if parent is not None:
        yield parent, key
    items = ()
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    for inner, item in items:
        yield from places(item, value, inner)


def spoilt(random, message):
    """A copy of a message with a few of its values changed, lost, doubled or nested."""
    message = copy.deepcopy(message)
    for _ in range(random.choice((1, 1, 1, 1, 2, 8))):
        found = list(places(message))
        if not found:
            break
        container, key = random.choice(found)
        chance = random.random()
        if chance < 0.75:
            container[key] = hostile(random, container[key])
        elif chance < 0.8:
            del container[key]
        elif chance < 0.85 and isinstance(container, list):
            container.extend(copy.deepcopy(container[key]) for _ in range(random.choice((1, 70))))
        elif chance < 0.9 and isinstance(container, dict):
            container[random.choice(TEXTS)] = container.pop(key)
        else:
            for _ in range(random.choice((1, 20))):
                container[key] = [container[key]] if random.random() < 0.5 else {"": container[key]}
    return message


def line(message):
    """As a peer would write it that minds no rules: NaN and half surrogates too."""
    return json.dumps(message).encode() + b"\n"


def mangled(random, data):
    """Bytes with a few flipped, cut out, doubled or put in."""
    data = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 5, 20))):
        at = random.randrange(len(data) + 1)
        chance = random.random()
        if chance < 0.4 and at < len(data):
            data[at] ^= 1 << random.randrange(8)
        elif chance < 0.6:
            del data[at : at + random.choice((1, 1, 10, 1000))]
        elif chance < 0.8:
            data[at:at] = random.choice(
                (b"\n", b"\0", b'"', b"{", b"[" * 5000, b"9" * 5000, b"\xff", random.randbytes(9))
            )
        else:
            data[at:at] = data[at : at + random.choice((1, 40, 4000))]
    return bytes(data)


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**65), 2**65)
    | st.floats()
    | st.text(st.characters(codec=None), max_size=20)
    | st.sampled_from(TEXTS)
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=20,
)


@st.composite
def messages(draw, corpus=CORPUS):
    """A message of the corpus with values of hypothesis' in some places."""
    message = copy.deepcopy(draw(st.sampled_from(corpus)))
    for _ in range(draw(st.integers(0, 4))):
        found = list(places(message))
        if found:
            container, key = found[draw(st.integers(0, len(found) - 1))]
            container[key] = draw(VALUES)
    return message
