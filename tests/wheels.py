"""Wheels that tests make, and an environment into which pip installs them."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path

from studio.system.optional_packages import OptionalPackage

TINY = OptionalPackage(
    "tiny", "Tiny reader", "tiny_reader", "tiny-reader>=1", 1, 1, "Nothing is read back."
)


@dataclass(frozen=True)
class Environment:
    """A virtual environment, and the folder of wheels that is its index."""

    folder: Path
    site_packages: Path
    wheels: Path


def write_wheel(
    folder: Path, version: str, content: str = "VALUE = 1\n", tag: str = "py3-none-any"
) -> Path:
    """A wheel of the package ``tiny-reader`` with one module."""
    folder.mkdir(exist_ok=True)
    info = f"tiny_reader-{version}.dist-info"
    files = {
        "tiny_reader.py": content,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: tiny-reader\nVersion: {version}\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    rows = [f"{name},{_hash(text)},{len(text)}" for name, text in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,"]) + "\n"
    path = folder / f"tiny_reader-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return "sha256=" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
