"""Which model types the installed transformers can load as causal language models.

The lists are read from the source of transformers, because importing them takes seconds: it imports
torch. They are always those of the installed version. An unknown layout of that source gives no
answer, and the Base model step, which asks transformers itself, decides.
"""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

_CAUSAL = "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES"
_CONFIGS = "CONFIG_MAPPING_NAMES"
_OTHER_TASKS = (
    "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
    "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES",
    "MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES",
    "MODEL_FOR_MULTIPLE_CHOICE_MAPPING_NAMES",
    "MODEL_FOR_MASKED_LM_MAPPING_NAMES",
    "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
)


@dataclass(frozen=True)
class Supported:
    """Known model types, those with a causal language model, and classes for other tasks."""

    types: frozenset[str]
    causal: frozenset[str]
    others: frozenset[str]


def installed_version(library: str) -> str:
    """The installed version of a library; empty if it is not installed."""
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return ""


@lru_cache(maxsize=1)
def supported() -> Supported | None:
    """What the installed transformers supports, or ``None`` if that cannot be read."""
    try:
        spec = importlib.util.find_spec("transformers")
        auto = Path(str(spec.origin if spec else None)).parent / "models" / "auto"
        files = ("auto_mappings.py", "configuration_auto.py", "modeling_auto.py")
        found = [p for name in files for p in _mappings((auto / name).read_text(encoding="utf-8"))]
    except (OSError, SyntaxError, ValueError, ImportError):
        return None
    configs = dict(pair for name, pairs in found if name == _CONFIGS for pair in pairs)
    causal = dict(pair for name, pairs in found if name == _CAUSAL for pair in pairs)
    # transformers asks for the class of the config, which several model types may share.
    classes = {configs[t] for t in causal if t in configs}
    usable = {t for t, config in configs.items() if config in classes}
    others = {c for name, pairs in found if name in _OTHER_TASKS for _, c in pairs}
    if not causal or not configs:
        return None
    return Supported(frozenset(configs), frozenset(usable), frozenset(others - {*causal.values()}))


def _mappings(source: str) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """The constants with a mapping of strings, by name; also where one is updated."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign):
            name: ast.AST | None = node.targets[0]
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            called = node.value.func
            name = called.value if isinstance(called, ast.Attribute) else None
        else:
            continue
        if isinstance(name, ast.Name) and name.id in (_CAUSAL, _CONFIGS, *_OTHER_TASKS):
            yield name.id, _pairs(node.value)


def _pairs(tree: ast.AST) -> list[tuple[str, str]]:
    """The pairs of strings inside an expression, written as tuples or as a dictionary."""
    found: list[tuple[ast.AST | None, ast.AST]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Tuple) and len(node.elts) == 2:
            found.append((node.elts[0], node.elts[1]))
        elif isinstance(node, ast.Dict):
            found += zip(node.keys, node.values, strict=True)
    return [
        (key.value, value.value)
        for key, value in found
        if isinstance(key, ast.Constant)
        and isinstance(value, ast.Constant)
        and isinstance(key.value, str)
        and isinstance(value.value, str)
    ]
