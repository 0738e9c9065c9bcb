"""Creates the README's screenshots by operating the window on the starter project.

Requires a display (or Xvfb), and takes as long as the starter project. ``--tokens`` creates only the
screenshot of the token view, which needs no training. The runs are written to a folder that is removed
at the end.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SIZE = (1440, 900)
TOKENS_ROW, TOKENS_WITHIN_S = 12, 120
WATCHED_STEPS = 42  # enough of the curve to see it fall, while it still trains
sys.path.insert(0, str(ROOT))


def main() -> int:
    """Open the window, run the starter project, take its pictures."""
    home = tempfile.mkdtemp(prefix="lora-studio-pictures-")
    os.environ["LORA_STUDIO_HOME"] = home
    try:
        return _take_tokens() if "--tokens" in sys.argv else _click_through() or _take_tokens()
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _click_through() -> int:
    from PySide6.QtCore import Qt, QTimer
    from PySide6.QtTest import QTest

    from ui import app as program

    application = program.make_application()
    session = program.open_session(application, ROOT / "assets" / "starter.studio")
    session.preferences.change(theme="dark")
    session.window.resize(*SIZE)

    def button(name: str) -> None:
        QTest.mouseClick(
            session.window.tool_bar.widgetForAction(session.window.own[name]),
            Qt.MouseButton.LeftButton,
        )

    def picture(name: str) -> None:
        application.processEvents()
        session.window.grab().save(str(ROOT / "docs" / name))

    def watch() -> None:
        monitor = session.window.monitor
        steps = len(monitor.plot("loss").points("loss")[0]) if monitor else 0
        if steps < WATCHED_STEPS and session.runs.phase != "idle":
            return
        watching.stop()
        session.window.canvas.select(("lora",))
        picture("window-dark.png")
        ending.start(500)

    def wait_for_end() -> None:
        if session.runs.phase != "idle":
            return
        ending.stop()
        session.preferences.change(theme="light")
        session.window.canvas.select(("train",))
        session.window.show_tab(2)
        QTest.qWait(1000)
        picture("results-light.png")
        session.window.may_close = lambda: True
        session.window.close()

    watching, ending = QTimer(), QTimer()
    watching.timeout.connect(watch)
    ending.timeout.connect(wait_for_end)
    QTimer.singleShot(3000, lambda: (session.window.canvas.fit_all(), button("run")))
    QTimer.singleShot(6000, lambda: watching.start(500))
    return application.exec()


def _take_tokens() -> int:
    """The token view on the starter's Train node."""
    from PySide6.QtTest import QTest

    from ui import app as program
    from ui.data.tabs import TOKENS

    application = program.make_application()
    session = program.open_session(application, ROOT / "assets" / "starter.studio")
    session.preferences.change(theme="light")
    session.window.resize(*SIZE)
    QTest.qWait(2000)
    session.tabs.wide.click()
    session.window.canvas.select(("train",))
    session.tabs.choose(TOKENS)
    page = session.tabs.page(TOKENS)
    flow = page.row_view.flow
    for _ in range(TOKENS_WITHIN_S):
        if flow.row is not None:
            break
        QTest.qWait(1000)
    page.go_to(TOKENS_ROW)
    QTest.qWait(2000)
    session.window.canvas.fit_all()
    trained = [i for i, t in enumerate(flow.row.tokens) if t.state == "trained"]
    flow.pin(trained[0])
    application.processEvents()
    session.window.grab().save(str(ROOT / "docs" / "tokens-light.png"))
    session.window.may_close = lambda: True
    session.window.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
