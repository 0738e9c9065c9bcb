"""Names of columns and keys: which names mean the same, which are bookkeeping, and which carry content
that must not be left out unnoticed.

Independent of formats, files and settings.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

_SEPARATORS = re.compile(r"""[\s_\-./:;?!*#'"()]+""")

OBJECT = (dict, Mapping)
"""What counts as an object of JSON in ``isinstance``. ``dict`` comes first, because the check of an
abstract class is slow, and every message of every row is checked several times."""


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


BOOKKEEPING = _names("""
    id ids idx index rowid rownumber uuid guid hash sha sha256 md5 serial
    source sources src origin dataset datasetname datasource subset config split fold
    url urls uri link href license licence copyright userid
    date datetime time timestamp created createdat createtime updated updatedat updatetime modified
    version revision language lang locale languagecode
    model modelname modelslug generator engine temperature topp maxtokens seed
    length numtokens tokens tokencount ntokens tokensused wordcount numwords chars numchars
    numturns turns turncount
    file filename filepath path page pagenumber line linenumber offset
    answerstart answerend cachecontrol
""")
"""Names, as ``normalized`` writes them, of columns and keys that describe a row and are not content."""

_BOOKKEEPING_END = re.compile(
    r"[_\-\s.](?:ids?|idx|index|hash|urls?|uuid|at|date|timestamp)$"
    r"|(?<=[a-z])(?:Ids?|Idx|Index|Hash|Urls?|URLs?|UUID|At|Date|Timestamp)$"
)

_SPLIT_COLUMNS = _names("split splits subset fold partition set datasplit splitname")
_HELD_OUT = _names("validation valid val dev eval evaluation holdout test testing")
_INDEX = re.compile(r"unnamed: ?0(?:\.\d+)*|level_\d|__index_level_\d+__", re.IGNORECASE)
"""Names that pandas gives to the index of a data frame."""

_CONTENT = {
    "a system message": "system systemprompt systemmessage systeminstruction systeminstructions sysprompt",
    "earlier turns": "history chathistory conversationhistory dialoghistory dialoguehistory previousturns pastturns"
    " previousmessages messagehistory historymessages",
    "tools": "tools functions availabletools tooldefinitions toolcalls functioncall functioncalls",
    "images": "image images img imgs imageurl imageurls imagepath imagepaths picture pictures photo photos"
    " pixelvalues screenshot screenshots",
    "videos": "video videos videopath videopaths",
    "audio": "audio audios audiopath audiopaths speech wav waveform",
    "reasoning": "reasoning reasoningcontent thinking thought thoughts cot chainofthought complexcot"
    " rationale rationales",
    "a summary": "summary summaries highlights tldr",
}
CONTENT = {name: kind for kind, names in _CONTENT.items() for name in _names(names)}
"""Names, as ``normalized`` writes them, that are known to carry content, and what it is. A column with
such a name is used by the format, or the row is refused."""

MEDIA = ("images", "videos", "audio", "images or sound")
"""The kinds of ``CONTENT`` that no training of this program can use."""

_MEDIA_WORDS = {
    **dict.fromkeys(
        (
            *("image", "images", "img", "imgs", "picture", "pictures", "photo", "photos"),
            *("screenshot", "screenshots", "jpg", "jpeg", "png", "webp"),
        ),
        "images",
    ),
    **dict.fromkeys(("video", "videos", "mp4"), "videos"),
    **dict.fromkeys(("audio", "audios", "wav", "mp3", "flac"), "audio"),
}
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|\d+")
_FILE_WORDS = _names(
    "path paths filepath url urls uri file files filename bytes base64 b64 data name"
)
_COUNTED = _names("num number n count has is no with total")
_THINKING = _names("thinking reasoning thought thoughts cot rationale rationales")
_FILES = _names("file filename filepath path")
_ENDINGS = _names("jpg jpeg png webp mp4 wav mp3 flac")
_DATA = {"image": "images", "video": "videos", "audio": "audio"}
_PROSE = 8

_MEDIA_MARK = re.compile(
    r"<(image|video|audio|speech)(?:[_-]?(?:\d+|placeholder|soft_token|token|here|context|content|pad))?>"
    r"|<(?:start|begin)_of_(?:image|video|audio)>|<(?:img_context|im_patch|im_start_image)>"
    r"|<\|(?:vision_start|(?:begin_of_)?(?:image|video|audio)(?:_pad|_bos|_placeholder|_soft_token|_\d+)?)\|>"
    r"|\[(IMG)\]",
    re.IGNORECASE,
)
_MEDIA_ELEMENT = re.compile(r"<(img|image|audio|video)>[^<>\s]+\.[a-z]\w{1,4}</\1>", re.IGNORECASE)
"""A file between marks, as Qwen-VL and Qwen-Audio write it."""


def media_mark(text: str) -> str:
    """The first mark in a text that stands for an image, a video or a sound, such as ``<image>``; empty
    without one. An element of HTML or XML, which is closed, is not such a mark."""
    element = _MEDIA_ELEMENT.search(text)
    if element is not None:
        return element.group()
    for found in _MEDIA_MARK.finditer(text):
        closed = f"</{found[1]}>" if found[1] else f"[/{found[2]}]" if found[2] else ""
        if not (closed and closed.lower() in text.lower()):
            return found.group()
    return ""


STRUCTURE = _names("""
    entities spans nertags
    problem solution resolution query translation input reply replies abstract chosen rejected
    assistant human bot correctanswer role from speaker sender user username authorid authortype
    sendertype sentby ts threadts channel channelid recipient replyto parentid parentmessageid
    parent conversationid convid threadid thread sessionid session chatid dialogid dialogueid
    messageid turnid messagetreeid rank label labels answer answers response completion output
    target question prompt instruction
""")
"""Names, as ``normalized`` writes them, of columns beside which a text is not plain text."""


@lru_cache(maxsize=4096)
def normalized(name: str) -> str:
    """The name in lower case without spaces, underscores and punctuation."""
    return _SEPARATORS.sub("", name).casefold()


def named(columns: Collection[str], default: str, aliases: Sequence[str] = ()) -> str | None:
    """The first of a column's usual names that exists, or ``None``.

    Exact names come first; then capitals, spaces, underscores and punctuation do not matter.
    """
    if default in columns:  # as in most rows
        return default
    return _named(tuple(columns), default, tuple(aliases))


@lru_cache(maxsize=4096)
def _named(columns: tuple[str, ...], default: str, aliases: tuple[str, ...]) -> str | None:
    wanted = (default, *aliases)
    for name in wanted:
        if name in columns:
            return name
    found = {normalized(c): c for c in reversed(columns) if isinstance(c, str)}
    return next((found[n] for n in map(normalized, wanted) if n and n in found), None)


@lru_cache(maxsize=4096)
def is_bookkeeping(name: str) -> bool:
    """Whether a column or key describes the row and is not content."""
    if normalized(name) in CONTENT:
        return False
    return normalized(name) in BOOKKEEPING or bool(_BOOKKEEPING_END.search(name))


@lru_cache(maxsize=4096)
def is_split_name(name: str) -> bool:
    """Whether a column with this name usually assigns rows to splits."""
    return normalized(name) in _SPLIT_COLUMNS


def marks_held_out(name: str, value: Any) -> bool:
    """Whether a column such as “split” says that its row is for validation or a test."""
    return isinstance(value, str) and is_split_name(name) and value.strip().casefold() in _HELD_OUT


def without_split_names(names: Iterable[str]) -> tuple[str, ...]:
    """The unused columns of a validation row: that a column marks it as one is no loss."""
    return tuple(n for n in names if not is_split_name(n))


@lru_cache(maxsize=4096)
def is_index_name(name: str) -> bool:
    """Whether pandas gives this name to a column that counts the rows."""
    return bool(_INDEX.fullmatch(name))


def counts_rows(name: str, value: Any) -> bool:
    """Whether a value is the index of a row in a column that counts the rows."""
    return (
        is_index_name(name) and str(value).strip().removeprefix("-").removesuffix(".0").isdecimal()
    )


_SWITCHES = _names(
    "on off true false yes no none null auto enabled disabled low medium high minimal"
)


def is_switch(value: Any) -> bool:
    """Whether the value of a column of thoughts is a setting (``reasoning: on``) and no thought."""
    if isinstance(value, str):
        return value.strip().casefold() in _SWITCHES
    return isinstance(value, (bool, int, float)) and value == value


@lru_cache(maxsize=4096)
def _media_name(name: str) -> str | None:
    """The kind of media that a name such as ``question_audio`` or ``image_1_path`` stands for."""
    words = [w.lower() for w in _WORDS.findall(name)]
    while words and (words[-1] in _FILE_WORDS or words[-1].isdigit()):
        words.pop()
    if not words or (len(words) > 1 and words[0] in _COUNTED):
        return None
    return _MEDIA_WORDS.get(words[-1])


def media_kind(name: str, value: Any) -> str | None:
    """The kind of media in a column, by its name or by its value; ``None`` for text and numbers."""
    if isinstance(value, OBJECT):
        keys = value.keys()
        if {"array", "sampling_rate"} <= keys or {"audio", "sampling_rate"} <= keys:
            return "audio"
        if {"bytes", "path"} <= keys:
            return _media_name(name) or "images or sound"
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], Mapping):
        return media_kind(name, value[0]) or _media_name(name)
    if isinstance(value, (bool, int, float)) or value is None:
        return None
    kind = _media_name(name) or (content_kind(name) if content_kind(name) in MEDIA else None)
    if isinstance(value, str):
        kind = kind or (_media_file(value) if normalized(name) in _FILES else None)
        found = value.startswith("data:") and _DATA.get(value[5:].partition("/")[0])
        return found or (None if kind is None or is_prose(value) else kind)
    return kind


def _media_file(value: str) -> str | None:
    """The kind of media in a file with this name."""
    ending = value.rpartition(".")[2].lower() if "." in value[-6:] else ""
    return _MEDIA_WORDS.get(ending) if ending in _ENDINGS else None


def holds_thoughts(name: str, value: Any) -> bool:
    """Whether a column with a name such as ``thinking_trajectory`` holds thoughts, and not a fact about
    them."""
    if isinstance(value, (list, tuple)):
        return any(holds_thoughts(name, v) for v in value)
    words = [w.lower() for w in _WORDS.findall(name)]
    return is_prose(value) and words[-1:] != ["prompt"] and not _THINKING.isdisjoint(words)


def is_prose(value: Any) -> bool:
    """Whether a value is a text of several words, and not the name of a file."""
    return isinstance(value, str) and len(value.split(None, _PROSE)) > _PROSE


def content_kind(name: str) -> str | None:
    """What a column or key with this name is known to hold, or ``None``."""
    return CONTENT.get(normalized(name))


def ignored_name(name: str) -> str:
    """The name in “Ignored columns” for a column or a key: ``mood`` for ``messages[].mood``."""
    return name.rpartition("[].")[2]


def has_content(value: Any) -> bool:
    """Whether a value holds anything: not null, NaN, blank text, or an empty list or object."""
    if value is None or value != value:
        return False
    if isinstance(value, str):
        return bool(value.strip())
    if isinstance(value, Mapping):
        return any(has_content(v) for v in value.values())
    if isinstance(value, (list, tuple)):
        return any(has_content(v) for v in value)
    return True


def unused_keys(objects: Iterable[Any], used: frozenset[str]) -> list[str]:
    """The keys with content in a list of objects that are neither used nor bookkeeping; each once."""
    found: dict[str, None] = {}
    for given in objects:
        if isinstance(given, OBJECT) and not used.issuperset(given):
            for key in given:
                if key not in used and not is_bookkeeping(str(key)) and has_content(given[key]):
                    found[str(key)] = None
    return list(found)
