"""Exported GGUF files hold the tensors and keys that llama.cpp's own converters write.

Needs a checkout of llama.cpp, named by the environment variable LORA_STUDIO_LLAMA_CPP.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.llama_cpp_converter import compare, convert, tiny_pairs
from tests.studio.training.gguf_models import FAMILIES

CHECKOUT = os.environ.get("LORA_STUDIO_LLAMA_CPP", "")
pytestmark = [
    pytest.mark.usefixtures("quiet_transformers"),
    pytest.mark.skipif(
        not CHECKOUT, reason="LORA_STUDIO_LLAMA_CPP does not name a checkout of llama.cpp"
    ),
]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_files_are_those_of_the_converter(tmp_path: Path, family: str) -> None:
    pairs = tiny_pairs(tmp_path, family, ("F32", "Q8_0"))
    convert(Path(CHECKOUT), [pair.job for pair in pairs])
    for pair in pairs:
        found = compare(pair.own, pair.theirs)
        assert found.tensors, pair.title
        assert not found.different, pair.title
        assert not found.keys, pair.title
