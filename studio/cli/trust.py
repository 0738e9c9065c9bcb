"""``trust``: review the custom code of a model, and trust it or revoke the trust.

It is the counterpart of the window's dialog. It must not run that code, and it never trusts without
a typed answer or ``--yes`` with the hash of the reviewed files.
"""

from __future__ import annotations

import argparse
import json
import sys

from studio.errors import StudioError
from studio.model import trust as store
from studio.model.models import local_folder
from studio.shown_text import line as shown
from studio.system.paths import current_dir


def trust(options: argparse.Namespace) -> int:
    """Show the files; store or revoke the user's trust."""
    if options.revoke:
        count = store.revoke(options.model)
        print(f"{options.model}: trust revoked." if count else "The model was not trusted.")
        return 0
    code = _code(options.model)
    if options.json:
        about = {"source": code.source, "revision": code.revision, "digest": code.digest}
        print(json.dumps({**about, "files": dict(code.files), "trusted": store.trusted(code)}))
    else:
        _show(code, options.show)
    if store.trusted(code):
        print("These files are already trusted.", file=sys.stderr)
        return 0
    if not _agreed(code, options):
        print("The files were not trusted.", file=sys.stderr)
        return 1
    store.trust(code)
    print(f"{code.source} may now run this code. Revoke the trust with --revoke.", file=sys.stderr)
    return 0


def _code(model: str) -> store.OwnCode:
    folder = local_folder(model, current_dir())
    code = None
    if folder is not None:
        revision = folder.name if folder.parent.name == "snapshots" else None
        code = store.own_code(folder, model, revision)
    if code is None:
        raise StudioError(
            f"{model} has no custom code, or is not on this machine.",
            code="no_own_code",
            hint="A model on the Hub is downloaded by its first run, which then asks for trust.",
        )
    return code


def _show(code: store.OwnCode, contents: bool) -> None:
    print(f"{code.source} requires custom Python code, in {code.folder}:")
    for name, digest in code.files.items():
        lines = code.text(name)
        print(f"  {shown(name)}  {lines.count(chr(10)) + 1} lines  sha256 {digest}")
        if contents:
            print("\n".join(f"    {line}" for line in lines.splitlines()))
    print("This code runs with all your permissions. Review it first (--show prints it).")


def _agreed(code: store.OwnCode, options: argparse.Namespace) -> bool:
    if options.yes is not None:
        return code.digest.startswith(options.yes) and len(options.yes) >= 12
    if options.json or not sys.stdin.isatty():
        print(f"To trust it without a prompt: --yes {code.digest[:16]}", file=sys.stderr)
        return False
    return input("Trust these files? Type yes: ").strip().lower() == "yes"
