"""The window's way to the data host: requests from the main thread, replies on the main thread.

``studio.preview.client`` starts the host with the first request and starts a new one after a crash.
Its callbacks come from a thread of its own; this hands them to the thread that this object lives
on. It knows no widgets and does not interpret the replies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from PySide6.QtCore import QObject, Signal, Slot
from shiboken6 import isValid

from studio.preview.client import DataClient
from studio.preview.protocol import Reply

Receiver = Callable[[Reply], object]
Read = Callable[[Mapping[str, Any]], Any]


class DataLink(QObject):
    """One data host. ``ask`` sends a request; its receiver is called on this object's thread.

    ``read`` converts the data of a result in the client's thread, so that long lists are not built
    on the main thread; the reply's data contain its result as ``"read"``.
    """

    _heard = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._client: DataClient | None = None
        self._receivers: dict[int, Receiver] = {}
        self._closed = False
        self._heard.connect(self._deliver)  # to this object's thread: never the client's

    @property
    def process_id(self) -> int | None:
        """The host's process id while there is one."""
        return self._client.process_id if self._client is not None else None

    def ask(self, what: str, receiver: Receiver, read: Read | None = None, **more: Any) -> int:
        """Send a request; returns its number, for ``cancel``. After ``close`` nothing is sent."""
        if self._closed:
            return 0
        if self._client is None:
            self._client = DataClient()
        heard = self._heard

        def hand_over(reply: Reply) -> None:
            heard.emit(_with_read(reply, read))

        number = self._client.ask(what, hand_over, **more)
        self._receivers[number] = receiver
        return number

    def cancel(self, number: int) -> None:
        """Cancel a request; its receiver is not called any more."""
        if self._receivers.pop(number, None) is not None and self._client is not None:
            self._client.cancel(number)

    def close(self) -> None:
        """End the host; no receiver is called after this."""
        self._closed = True
        self._receivers.clear()
        client, self._client = self._client, None
        if client is not None:
            client.close()

    @Slot(object)
    def _deliver(self, reply: Reply) -> None:
        receiver = (
            self._receivers.pop(reply.id, None) if reply.last else self._receivers.get(reply.id)
        )
        owner = getattr(receiver, "__self__", None)
        if receiver is None or (isinstance(owner, QObject) and not isValid(owner)):
            return
        receiver(reply)


def _with_read(reply: Reply, read: Read | None) -> Reply:
    if read is None or reply.kind not in ("result", "partial"):
        return reply
    return Reply(reply.id, reply.kind, {**reply.data, "read": read(reply.data)})
