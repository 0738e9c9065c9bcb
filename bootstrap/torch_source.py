"""Decides which build of torch this machine needs, and from where it is installed.

Why: PyPI's torch is CUDA on Linux (several GB, useless without an NVIDIA GPU) and CPU-only on
Windows (useless with one), and a CUDA build works only with a new enough driver and on the cards
that it has kernels for. The user's pip settings come first, and `LORA_STUDIO_TORCH` decides
outright: cpu, cuda, a tag such as cu126, default (the configured index), or the address of an
index. The choice is kept with the environment until another is made; auto returns to none.

It must not install anything; `decide()` and `candidates()` are plain functions of what was found out.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bootstrap import BootstrapError, cards
from bootstrap.cards import Card, Driver

VERSION = "2.13.0"
INDEX = "https://download.pytorch.org/whl/"
PROBE_S = 5.0
CHOICE = "LORA_STUDIO_TORCH"
AUTO = "auto"
_ON_CPU = "Until then, training runs on the CPU."


# ---------------------------------------------------------------- builds


@dataclass(frozen=True)
class Build:
    """One CUDA build of torch: the driver it needs, and the cards that it has kernels for.

    From PyTorch's release matrix for 2.12 to 2.14 and the CUDA release notes; kernels run on all later
    cards of the same major version. The aarch64 builds have none for cards before Ampere.
    """

    cuda: str
    linux_driver: tuple[int, ...]
    windows_driver: tuple[int, ...]
    oldest: tuple[int, int]
    newest_major: int

    @property
    def tag(self) -> str:
        return "cu" + self.cuda.replace(".", "")

    def driver(self, platform: str) -> tuple[int, ...]:
        """The oldest driver that the build runs with."""
        return self.windows_driver if platform == "win32" else self.linux_driver

    def has_kernels(self, card: Card, machine: str) -> bool:
        """Whether the build contains code for the card; one of unknown capability is left to the driver."""
        if card.capability is None:
            return True
        oldest = max(self.oldest, (8, 0)) if is_arm(machine) else self.oldest
        return oldest <= card.capability and card.capability[0] <= self.newest_major

    def serves(self, card: Card, driver: Driver, platform: str, machine: str) -> bool:
        """Whether the build runs on this card with this driver."""
        return self.has_kernels(card, machine) and driver.at_least(self.driver(platform))


BUILDS = (
    Build("13.0", (580,), (580,), (7, 5), 12),
    Build("12.6", (525, 60, 13), (528, 33), (5, 0), 9),
)
"""The newest first. CUDA 12.8 and 12.9 are not built any more; 13.2 serves the same cards as 13.0. bitsandbytes has
libraries for all three."""


def is_arm(machine: str) -> bool:
    """Whether `platforms.machine()` names a 64-bit Arm."""
    return machine.lower() in ("aarch64", "arm64")


@dataclass(frozen=True)
class Decision:
    """The CUDA build for this machine, None for the CPU build, and what the user should know."""

    build: Build | None
    notices: tuple[str, ...] = ()


def decide(platform: str, machine: str, driver: Driver) -> Decision:
    """The build that serves the most capable card, then the most cards, then the newest.

    `platform` is `sys.platform` and `machine` is `platforms.machine()`.
    """
    if platform == "darwin" or not driver.cards:
        return Decision(None)

    def served(build: Build) -> list[Card]:
        return [c for c in driver.cards if build.serves(c, driver, platform, machine)]

    best = max(BUILDS, key=lambda b: (_strongest(served(b)), len(served(b)), b is BUILDS[0]))
    reached = served(best)
    left = [c for c in driver.cards if c not in reached]
    notices = [
        _unserved(card, driver, platform, machine, bool(reached)) for card in dict.fromkeys(left)
    ]
    return Decision(best if reached else None, tuple(notices))


def _strongest(found: Sequence[Card]) -> tuple[int, int]:
    return max((c.capability or (7, 5) for c in found), default=(0, 0))


def _unserved(card: Card, driver: Driver, platform: str, machine: str, others: bool) -> str:
    """Why a card is not used, and what to do."""
    builds = [b for b in BUILDS if b.has_kernels(card, machine)]
    after = "Training uses the other card." if others else _ON_CPU
    if not builds:
        capability = ".".join(map(str, card.capability or ()))
        after = after.replace(_ON_CPU, "Training runs on the CPU.")
        return f"torch {VERSION} has no build for the {card.name} (compute capability {capability}). {after}"
    if not any(driver.at_least(b.driver(platform)) for b in builds):
        needed = min(b.driver(platform) for b in builds)
        return (
            f"The NVIDIA driver {driver.version} is too old for torch {VERSION} on the {card.name}, "
            f"which needs driver {'.'.join(map(str, needed))} or newer. Update the driver, then start again. {after}"
        )
    return (
        f"No single build of torch {VERSION} serves all cards of this machine: the {card.name} is not "
        f"used. {after}"
    )


# ---------------------------------------------------------------- what is installed


@dataclass(frozen=True)
class Installed:
    """A complete torch in the environment; `cuda` and `hip` are the versions that it was built with."""

    version: str = ""
    cuda: str = ""
    hip: str = ""

    @property
    def is_current(self) -> bool:
        """Whether this is the pinned version, whatever its build."""
        return self.version.partition("+")[0] == VERSION


def installed(site_packages: Sequence[Path]) -> Installed:
    """The torch that is completely installed in one of these folders."""
    for folder in site_packages:
        for record in folder.glob("torch-*.dist-info/RECORD"):
            version = record.parent.name[len("torch-") : -len(".dist-info")]
            return Installed(version, *_built_with(folder / "torch" / "version.py", version))
    return Installed()


def _built_with(file: Path, version: str) -> tuple[str, str]:
    """CUDA and ROCm version according to torch/version.py, without importing it."""
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    found = dict(re.findall(r"^(cuda|hip)\b[^=\n]*=\s*'([^']*)'", text, re.MULTILINE))
    tag = re.search(r"\+cu(\d+)(\d)$", version)
    cuda = found.get("cuda", "") or (f"{tag.group(1)}.{tag.group(2)}" if tag else "")
    return cuda, found.get("hip", "")


# ---------------------------------------------------------------- sources


@dataclass(frozen=True)
class Source:
    """One way to get torch: the requirement, pip's extra arguments, and the builds that are accepted.

    `accepts` names CUDA versions, "cpu" for a build without one; empty accepts every build.
    """

    label: str
    requirement: str = f"torch=={VERSION}"
    index: str = ""  # an index beside the configured ones
    probe: bool = False  # skip it when the index does not answer
    accepts: tuple[str, ...] = ()

    def arguments(self) -> list[str]:
        return [self.requirement, *(["--extra-index-url", self.index] if self.index else [])]


PLAIN = Source("the configured package index")
CPU = Source("PyTorch's CPU index", index=INDEX + "cpu", probe=True)


def cuda_index(tag: str, accepts: tuple[str, ...] = ()) -> Source:
    """PyTorch's own index of one CUDA build."""
    return Source(
        f"PyTorch's CUDA index ({tag})",
        requirement=f"torch=={VERSION}+{tag}",
        index=INDEX + tag,
        accepts=accepts or (cuda_of(tag),),
    )


def cuda_of(tag: str) -> str:
    """`cu126` as `12.6`."""
    return f"{tag[2:-1]}.{tag[-1]}"


def candidates(
    platform: str, machine: str, driver: Driver, own_index: bool, choice: str = ""
) -> list[Source]:
    """The sources to try, in order. `own_index` says whether the user's pip settings name further
    places for packages."""
    decision = decide(platform, machine, driver)
    if choice not in ("", AUTO):
        return [_chosen(choice, decision, platform)]
    if decision.build is None:
        if platform.startswith("linux"):
            return [PLAIN, CPU] if own_index else [CPU, PLAIN]
        return [PLAIN]
    accepts = _equals(decision.build, platform, machine, driver)
    index = cuda_index(decision.build.tag, accepts)
    if decision.build is BUILDS[0] and platform.startswith("linux"):
        return [Source(PLAIN.label, accepts=accepts), index]
    if own_index:
        return [
            Source(PLAIN.label, requirement=_requirement(decision.build), accepts=accepts),
            index,
        ]
    return [index]


def _requirement(build: Build) -> str:
    """PyPI's name for the newest build has no tag; older ones are only found by theirs."""
    return PLAIN.requirement if build is BUILDS[0] else f"torch=={VERSION}+{build.tag}"


def _equals(build: Build, platform: str, machine: str, driver: Driver) -> tuple[str, ...]:
    """The CUDA versions that serve the same cards; one that is installed is kept."""

    def served(other: Build) -> list[bool]:
        return [other.serves(c, driver, platform, machine) for c in driver.cards]

    found = [b.cuda for b in BUILDS if served(b) == served(build)]
    return (*found, "13.2") if "13.0" in found else tuple(found)


def _chosen(choice: str, decision: Decision, platform: str) -> Source:
    if choice == "cpu":
        if platform == "darwin":
            return PLAIN
        return Source(CPU.label, index=CPU.index, accepts=("cpu",))
    if choice == "default":
        return PLAIN
    if choice == "cuda":
        return cuda_index((decision.build or BUILDS[0]).tag)
    if re.fullmatch(r"cu\d{3}", choice):
        return cuda_index(choice)
    if re.match(r"(https?|file):", choice) or os.path.isabs(choice):
        return Source(choice, index=choice)
    raise BootstrapError(
        f"{CHOICE} is “{choice}”. Set it to cpu, cuda, a tag such as cu126, default, auto, or the address of "
        "a package index."
    )


def acceptable(have: Installed, source: Source) -> bool:
    """Whether what is installed is a build that `source` should provide."""
    if not have.is_current:
        return False
    if not source.accepts:
        return True
    return (have.cuda or ("rocm" if have.hip else "cpu")) in source.accepts


def names_own_index(pip_config: str) -> bool:
    """Whether the output of `pip config list` names places for packages beside the main index."""
    keys = ("find-links", "extra-index-url", "no-index")
    for line in pip_config.splitlines():
        key, _, value = line.partition("=")
        if key.strip().rpartition(".")[2] in keys and value.strip().strip("'\"").strip():
            return True
    return False


def reachable(index: str, timeout_s: float = PROBE_S) -> bool:
    """Whether the index has a page for torch; gives up after `timeout_s`, name look-up included."""
    answers: list[bool] = []
    thread = threading.Thread(target=_ask, args=(index, timeout_s, answers), daemon=True)
    thread.start()
    thread.join(timeout_s)
    return bool(answers)


def _ask(index: str, timeout_s: float, answers: list[bool]) -> None:
    import ssl  # slow to import, and not needed at most starts
    import urllib.request

    authorities = os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE")
    try:
        context = ssl.create_default_context(cafile=authorities or None)
        request = urllib.request.Request(index.rstrip("/") + "/torch/", method="HEAD")
        with urllib.request.urlopen(request, timeout=timeout_s, context=context) as answer:
            if answer.status < 400:
                answers.append(True)
    except (OSError, ValueError):
        return  # not reachable: the next source is tried


# ---------------------------------------------------------------- what the stamp records


def choice(stamp: dict[str, object], environment: dict[str, str] | os._Environ[str]) -> str:
    """The build that was asked for: now, or when the environment was set up; empty for automatic."""
    given = environment.get(CHOICE, "").strip()
    if given:
        return "" if given == AUTO else given
    recorded = stamp.get("torch")
    kept = recorded.get("choice") if isinstance(recorded, dict) else ""
    return kept if isinstance(kept, str) else ""


def record(asked: str) -> dict[str, str]:
    """What the stamp keeps about the build of torch."""
    return {"choice": asked, "machine": cards.signature()}


def settled(stamp: dict[str, object]) -> bool:
    """Whether neither the choice nor the cards have changed since the environment was completed.
    An explicit `auto` asks for a look at both."""
    return os.environ.get(CHOICE, "").strip() != AUTO and stamp.get("torch") == record(
        choice(stamp, os.environ)
    )
