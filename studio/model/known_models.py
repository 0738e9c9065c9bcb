"""Widely used base models of the Hub, whose facts and shapes are known before they are downloaded."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_suffix(".toml")


@dataclass(frozen=True)
class KnownModel:
    """A model by its Hub ID. ``config`` are the keys of its config.json that give its shape; ``download`` the bytes of
    its weights, if they are not two per parameter. All of them have a chat template."""

    model: str
    title: str
    licence: str
    config: dict[str, Any]
    gated: bool = False
    download: int | None = None


@cache
def known_models() -> dict[str, KnownModel]:
    """The known models by Hub ID."""
    with FILE.open("rb") as file:
        return {m["model"]: KnownModel(**m) for m in tomllib.load(file)["models"]}


def known_model(model: str) -> KnownModel | None:
    """The known model with this Hub ID, or ``None``."""
    return known_models().get(model.strip())
