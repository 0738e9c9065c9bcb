"""Which names the Hub accepts for a repository (``validate_repo_id`` of ``huggingface_hub``) and for a branch."""

from __future__ import annotations

import re

LONGEST = 96
"""Characters of owner, and of name."""
_PART = re.compile(r"[A-Za-z0-9_.-]+")


def repository_fault(name: str) -> str:
    """What is wrong with the ID of a repository (owner/name), as the end of a sentence; empty if nothing is."""
    owner, slash, own = name.partition("/")
    if not slash or not owner or not own or "/" in own:
        return "it must have the form owner/name, where the owner is a user or an organization of the Hub"
    if not all(_PART.fullmatch(part) for part in (owner, own)):
        return "it may only contain letters without accents, digits, -, _ and ."
    if max(len(owner), len(own)) > LONGEST:
        return f"owner and name may have at most {LONGEST} characters each"
    if any(part[0] in "-." or part[-1] in "-." for part in (owner, own)):
        return "owner and name may neither start nor end with - or ."
    if "--" in name or ".." in name:
        return "it may not contain -- or .."
    if own.endswith(".git"):
        return "it may not end with .git"
    return ""


def branch_fault(name: str) -> str:
    """What is wrong with the name of a branch, as the end of a sentence; empty if nothing is."""
    bad = any(not c.isprintable() or c in " ~^:?*[\\" for c in name)
    parts = name.split("/")
    edges = any(not p or p.startswith(".") or p.endswith((".", ".lock")) for p in parts)
    if bad or edges or ".." in name or "@{" in name or name.startswith("-") or name == "@":
        return "git does not allow such a branch"
    return ""
