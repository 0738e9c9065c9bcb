"""The function of llama.cpp that writes blocks of K- and I-quants, from a library that is on this computer.

Nothing is compiled: ``ggml_quantize_chunk`` is exported by llama.cpp's own library (beside ``llama-quantize`` on the
PATH, or in the package ``llama-cpp-python``), by the module of ``xllamacpp``, and by the library of
``ik-llama-cpp-python``. The file is then written here, tensor by tensor, so that any architecture can be written and no
file in full precision is needed. https://github.com/ggml-org/llama.cpp/blob/master/ggml/include/ggml.h
"""

from __future__ import annotations

import ctypes
import importlib
import mmap
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from studio.errors import StudioError
from studio.system.optional_packages import LLAMA_QUANTIZE

_FUNCTION = "ggml_quantize_chunk"
_NAMES = {
    "win32": ("ggml-base.dll", "ggml.dll"),
    "darwin": ("libggml-base.dylib", "libggml.dylib"),
}
_LINUX = ("libggml-base.so", "libggml-base.so.0", "libggml.so")


def find_library() -> Path | None:
    """The first library that exports the function; ``None`` without one. Nothing is loaded."""
    return next((path for path in _candidates() if _exports(path)), None)


def open_library(kinds: Sequence[str]) -> ctypes.CDLL:
    """Load the first library that can be loaded here. Raises ``StudioError``, naming the quantizations that need it, if
    there is none."""
    failed = []
    for path in filter(_exports, _candidates()):
        try:
            return _loaded(path)
        except OSError as error:
            failed.append(f"{path.name} cannot be loaded ({error})")
    named, need = ", ".join(kinds), "need" if len(kinds) > 1 else "needs"
    why = failed[0] if failed else "which is not installed"
    raise StudioError(
        f"{named} {need} llama.cpp, {f'and {why}' if failed else why}.",
        title="A program is missing",
        hint=how_to_get(),
        code="no_quantizer",
        field="quantizations",
    )


def _loaded(path: Path) -> ctypes.CDLL:
    if sys.platform == "win32":  # the libraries that it needs lie beside it
        os.add_dll_directory(str(path.parent))
    library = ctypes.CDLL(str(path))
    function = library.ggml_quantize_chunk
    function.restype = ctypes.c_size_t
    pointer, count = ctypes.c_void_p, ctypes.c_int64
    function.argtypes = [ctypes.c_int, pointer, pointer, count, count, count, pointer]
    return library


def how_to_get() -> str:
    """What to install, and its size."""
    return (
        f"Install it ({LLAMA_QUANTIZE.disk_mb} MB on disk) with: {LLAMA_QUANTIZE.command} – or put llama.cpp's "
        "llama-quantize with its libraries on the PATH, or choose Q8_0, Q5_1, Q5_0, Q4_1 or Q4_0, which need no other "
        "program."
    )


def _candidates() -> Iterator[Path]:
    importlib.invalidate_caches()
    program = shutil.which("llama-quantize")
    if program:
        folder = Path(program).resolve().parent
        yield from _in(folder)
        yield from _in(folder.parent / "lib")
    for package in ("llama_cpp", "xllamacpp", "ik_llama_cpp"):
        spec = find_spec(package)
        for place in (spec.submodule_search_locations or ()) if spec else ():
            yield from _in(Path(place) / "lib")
            yield from sorted(p for p in Path(place).glob("*.so") if p.name.startswith(package))


def _in(folder: Path) -> Iterator[Path]:
    for name in _NAMES.get(sys.platform, _LINUX):
        if (folder / name).is_file():
            yield folder / name


def _exports(path: Path) -> bool:
    try:
        return _contains(path, path.stat().st_mtime_ns)
    except OSError:
        return False


@lru_cache(maxsize=16)
def _contains(path: Path, changed: int) -> bool:
    """Whether a file names the function. ``changed`` is part of the key."""
    del changed
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return data.find(_FUNCTION.encode()) >= 0
