"""The templates: projects that come with the program, each with small data of its own, and what to call them.

A new project made from one is a copy: it has no file until it is saved, and then gets its own copy of the data
(``own_data``).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from studio.graph.graph import Graph
from studio.graph.project import SUFFIX, load_project
from studio.graph.registry import Registry
from studio.graph.relocate import relocated
from studio.system.paths import assets_dir


@dataclass(frozen=True)
class Template:
    """The stem of its file, its title, and one sentence about it."""

    id: str
    title: str
    sentence: str

    @property
    def path(self) -> Path:
        """Its project file."""
        return assets_dir() / "templates" / f"{self.id}{SUFFIX}"


TEMPLATES = (
    Template(
        "answer-in-my-tone",
        "Answer in my tone",
        "Learns the style of one person's answers from chats, and shows answers while it trains.",
    ),
    Template(
        "classify-text",
        "Classify text",
        "Learns to sort messages into five topics, and counts correct ones before and after.",
    ),
    Template(
        "extract-json",
        "Extract JSON",
        "Learns to write the facts of an e-mail as JSON, and counts exact answers.",
    ),
    Template(
        "qlora-8gb",
        "QLoRA on 8 GB",
        "Trains on a 4-bit base with settings that save memory, for a GPU with 8 GB.",
    ),
    Template(
        "pretrain-then-instruct",
        "Continued pretraining, then instructions",
        "Trains on a text, and goes on with the same adapter on questions and answers.",
    ),
    Template(
        "compare-ranks",
        "Compare three ranks",
        "Trains ranks 4, 16 and 64 on the same rows, and evaluates each on the same test.",
    ),
    Template(
        "full-fine-tuning",
        "Full fine-tuning as the baseline",
        "Trains all weights and, beside them, a LoRA adapter on the same rows.",
    ),
)


def from_template(template: Template, registry: Registry, folder: Path) -> Graph:
    """The project of a template; the paths of its data are written as seen from ``folder``."""
    graph = load_project(template.path)
    return relocated(graph, registry, template.path.parent, folder)
