"""docs/data.md says what the program reads, asks about and refuses; its pictures show what is trained."""

from __future__ import annotations

import re
from html import unescape
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

from studio.graph.registry import load_registry
from studio.preview.tokens import RoleSpan, State, Token, TokenRow
from tests.docs.makers import load_maker
from ui.data.token_paint import chip_fill
from ui.style.theme_colors import DARK, LIGHT

SVG = "{http://www.w3.org/2000/svg}"
ANSWER = "<think>↵↵</think>↵↵Four.<|im_end|>↵"
Chip = tuple[str, str, float, float]
"""The classes of a chip, its text, and its left and right edge."""


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    """The script as a module."""
    return load_maker("make_data")


@pytest.fixture(scope="module")
def made(maker: ModuleType) -> dict[Path, str]:
    """What the script writes."""
    files: dict[Path, str] = maker.files(load_registry())
    return files


@pytest.fixture(scope="module")
def page(maker: ModuleType, made: dict[Path, str]) -> str:
    """The text of the page."""
    return made[maker.PAGE]


def lines_of(svg: str) -> list[list[Chip]]:
    """The chips of each line, without the legend."""
    found = []
    for group in list(ElementTree.fromstring(svg).iter(f"{SVG}g"))[1:]:
        boxes = [r for r in group.iter(f"{SVG}rect") if r.get("class", "u")[0] in "tcx"]
        texts = ["".join(t.itertext()) for t in group.iter(f"{SVG}text")]
        edges = [(float(r.attrib["x"]), float(r.attrib["width"])) for r in boxes]
        found.append(
            [
                (box.attrib["class"], text, x, x + wide)
                for box, text, (x, wide) in zip(boxes, texts, edges, strict=True)
            ]
        )
    return found


def text_of(svg: str, kind: str) -> str:
    """The text of the chips of a kind: t for trained, c for context, x for truncated, s for special."""
    return "".join(t for line in lines_of(svg) for classes, t, *_ in line if kind in classes)


def picture_of(title: str, maker: ModuleType, made: dict[Path, str]) -> str:
    name = re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
    return made[maker.PICTURES / f"{name}.svg"]


# ------------------------------------------------------------------ the files


def test_page_and_pictures_are_current(maker: ModuleType, made: dict[Path, str]) -> None:
    """Byte for byte; none is missing, none is left from an example that no longer exists."""
    stored = {p: p.read_bytes() for p in [maker.PAGE, *maker.PICTURES.iterdir()]}
    wrong = [
        p.name
        for p in sorted({*stored, *made})
        if p not in made or stored.get(p) != made[p].encode()
    ]
    assert wrong == [], "run: python docs/make_data.py"
    assert sum(len(stored[p]) for p in stored if p != maker.PAGE) < 400_000


def test_every_example_that_is_read_has_its_picture_and_no_other(
    maker: ModuleType, made: dict[Path, str], page: str
) -> None:
    shown = [maker.DOCS / s for s in re.findall(r'<img src="(.+?)"', page)]
    assert sorted(shown) == sorted(set(made) - {maker.PAGE})
    for section in page.split("\n### ")[1:]:
        assert section.count("<img ") == ("\n**Refused**: " not in section)


def test_overview_links_to_every_kind(maker: ModuleType, page: str) -> None:
    titles = [e.title for examples in maker.EXAMPLES.values() for e in examples]
    links = dict(re.findall(r"^\| \[(.+)\]\(#(.+?)\) \|", page, re.MULTILINE))
    assert list(links) == titles == re.findall(r"^### (.+)", page, re.MULTILINE)
    assert len(set(links.values())) == len(titles)
    assert links["Messages, as in the OpenAI API"] == "messages-as-in-the-openai-api"


def test_every_format_has_an_example(page: str) -> None:
    """Only the custom format has none, because the user writes it."""
    titles = {v.title for v in load_registry().variants["format"].values() if v.id != "custom"}
    assert {t for t in titles if f"**: {t}; " not in page or f" | {t} |" not in page} == set()


def test_refused_examples_are_refused_and_others_are_not(page: str) -> None:
    """Preferences are read, but no objective uses them yet."""
    rest, _, refused = page.partition("\n## Refused\n")
    sections = rest.split("\n## ")
    assert [s.split("\n")[0] for s in sections if "\n**Refused**: " in s] == ["Preferences"]
    assert refused.count("\n**Refused**: ") == refused.count("\n### ")
    assert page.count("| ✕ Refused |") == page.count("\n**Refused**: ")


# ------------------------------------------------------------------ what the pictures show


@pytest.mark.parametrize(
    ("title", "trained"),
    [
        ("Prompt and completion", ANSWER),
        ("A system message beside them", ANSWER),
        ("Earlier turns in a history", ANSWER + ANSWER.replace("Four", "Seven")),
        ("Reasoning in a column", ANSWER.replace("↵↵<", "↵Two·plus·two·is·four.↵<")),
        ("A translation", ANSWER.replace("Four.", "こんにちは")),
        ("One column of text", "·of·this·is·learned.<|im_end|>"),
    ],
)
def test_picture_marks_what_is_trained(
    title: str, trained: str, maker: ModuleType, made: dict[Path, str]
) -> None:
    """The first token of a row is never trained, because nothing comes before it."""
    assert text_of(picture_of(title, maker, made), "t") == trained


def test_picture_shows_context_special_tokens_and_line_breaks(
    maker: ModuleType, made: dict[Path, str]
) -> None:
    svg = picture_of("Prompt and completion", maker, made)
    assert text_of(svg, "c") == "<|im_start|>user↵Two·and·two?<|im_end|>↵<|im_start|>assistant↵"
    assert text_of(svg, "s") == "<|im_start|><|im_end|><|im_start|><|im_end|>"
    lines = ["".join(text for _, text, *_ in line) for line in lines_of(svg)]
    assert all(line.endswith("↵") and "↵" not in line.rstrip("↵") for line in lines)
    words = "".join(ElementTree.fromstring(svg).itertext())
    assert "Trained 8" in words
    assert "Context 12" in words
    assert "user" in words


def test_the_words_for_those_who_do_not_see_it(
    maker: ModuleType, made: dict[Path, str], page: str
) -> None:
    wanted = "8 of 20 tokens trained (40 %): “<think> </think> Four.<|im_end|>”."
    svg = ElementTree.fromstring(picture_of("ShareGPT", maker, made))
    assert svg.findtext(f"{SVG}title")
    assert svg.findtext(f"{SVG}desc") == wanted
    alt = re.search(r'<img src="data/sharegpt.svg" alt="(.+?)">', page)
    assert alt
    assert unescape(alt[1]) == wanted


def test_chips_do_not_overlap_and_stay_inside(maker: ModuleType, made: dict[Path, str]) -> None:
    for svg in (made[p] for p in made if p != maker.PAGE):
        width = float(ElementTree.fromstring(svg).attrib["width"])
        for line in lines_of(svg):
            assert all(a[3] < b[2] for a, b in pairwise(line))
            assert line[-1][3] < width


def test_wide_characters_take_two_places(maker: ModuleType, made: dict[Path, str]) -> None:
    def width(title: str, text: str) -> float:
        chips = (c for line in lines_of(picture_of(title, maker, made)) for c in line)
        return next(right - left for _, word, left, right in chips if word == text)

    five, nine = (
        width("A translation", "こんにちは"),
        width("Messages, as in the OpenAI API", "assistant"),
    )
    assert five > nine


def test_picture_has_the_colours_of_the_window(maker: ModuleType, made: dict[Path, str]) -> None:
    light, dark = picture_of("ShareGPT", maker, made).split("@media (prefers-color-scheme:dark)")
    states: tuple[State, ...] = ("trained", "context")
    for style, look in ((light, LIGHT), (dark, DARK)):
        assert look.background.name() in style
        for state in states:
            fill = chip_fill(state, look)
            assert fill is not None
            assert f".{state[0]}{{fill:{fill.name()}}}" in style


def test_a_long_row_is_cut_and_says_how_much_is_left_out() -> None:
    def token(text: str, state: State) -> Token:
        return Token(5, text, state, 5 if state == "trained" else -100, 0, 1, False)

    picture = load_maker("token_picture").picture
    tokens = [token(t, "context") for _ in range(40) for t in ("word", "\n")]
    tokens += [token(t, "trained") for _ in range(30) for t in ("answer", "\n")]
    tokens += [token("late", "cut")] * 3
    row = TokenRow(
        1, "a", 1, "train", "", tuple(tokens), (RoleSpan("user", 0, 80),), more_cut=1_500
    )
    svg = picture([row])
    words = "".join(ElementTree.fromstring(svg).itertext())
    assert "64 tokens of context not shown" in words
    assert "36 trained tokens not shown" in words
    assert "1,500 truncated tokens not shown" in words
    assert "Truncated 1,503" in words
    assert text_of(svg, "x") == "latelatelate"
    assert text_of(svg, "c") == "word↵" * 8
    assert text_of(svg, "t") == "answer↵" * 12
    assert svg.count("url(#hatch)") == 1 + 3  # one in the legend
