"""A data host that opens anything and dies over the first row, as one does that runs out of memory.

It writes a line into the file ``DYING_HOST`` at each start.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from studio.preview.protocol import line_of, message_in


def main() -> None:
    """Answer ``open``; end at ``rows``."""
    with Path(os.environ["DYING_HOST"]).open("a", encoding="utf-8") as starts:
        starts.write("started\n")
    for line in sys.stdin:
        message = message_in(line) or {}
        if message.get("ask") == "rows":
            sys.exit("no memory left")
        if message.get("ask") == "open":
            print(line_of({"id": message["id"], "kind": "result", "rows": 3}), end="", flush=True)


if __name__ == "__main__":
    main()
