"""The scripts in docs/ that make a page, as modules."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from studio.graph.registry import load_registry

DOCS = Path(__file__).resolve().parents[2] / "docs"


def load_maker(name: str) -> ModuleType:
    """The script ``docs/NAME.py``."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # a dataclass looks up the module that it is defined in
    spec.loader.exec_module(module)
    return module


def check_page(maker: ModuleType) -> None:
    """What stands in docs/ is what the script makes of the registry of now."""
    assert maker.PAGE.read_text(encoding="utf-8") == maker.page(load_registry()), (
        f"run: python docs/{maker.__name__}.py"
    )
