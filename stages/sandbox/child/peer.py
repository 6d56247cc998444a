"""Calls between two processes over two pipes, both ways and nested; arguments that a call changed are updated."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any, Final

from . import confine
from .codec import Codec, Heap, Refused

_MAX_MESSAGE: Final = 1 << 28
Message = dict[str, Any]


class Gone(BaseException):
    """The other process has ended, or talks nonsense. Not an Exception: no test may swallow it."""


class Peer:
    """One end of the line. `serve` answers the other end's requests: operation and decoded values to a value."""

    def __init__(
        self,
        codec: Codec,
        serve: Callable[[str, list[Any]], object],
        raised: Callable[[BaseException], Any],
        reraise: Callable[[Any], BaseException],
    ) -> None:
        self.codec = codec
        self._serve = serve
        self._raised = raised
        self._reraise = reraise
        self.asked = 0

    def ask(self, operation: str, *values: object) -> Any:
        """Request an operation and wait for its outcome. Raises what the other side raised; Gone if it ended."""
        self.asked += 1
        encoded, heap = self.codec.encode(values)
        self.send({"op": operation, "v": encoded, "h": heap})
        while True:
            message = self.receive()
            if "op" in message:
                self.answer(message)
            else:
                return self._outcome(message)

    def _outcome(self, message: Message) -> Any:
        try:
            if "x" in message:
                self.codec.decode([], message.get("h", {}))
                error = self._reraise(message["x"])
            else:
                return self.codec.decode([message["r"]], message["h"])[0]
        except (Refused, KeyError, TypeError, ValueError, AttributeError) as bad:
            raise Gone(f"an answer that is none: {bad}") from None
        raise error

    def answer(self, message: Message) -> None:
        """Carry out one request of the other side and send the outcome."""
        values: list[Any] = []
        known: Heap = {}
        try:
            known = message["h"]
            values = self.codec.decode(message["v"], known)
            result = self._serve(message["op"], values)
            reply = self._reply(result, values, known)
        except Gone:
            raise
        except BaseException as error:
            reply = {"x": self._raised(error), **self._changes(values, known)}
        self.send(reply)

    def _reply(self, result: object, values: list[Any], known: Heap) -> Message:
        encoded, heap = self.codec.encode([result, *values])
        return {"r": encoded[0], "h": {name: entry for name, entry in heap.items() if known.get(name) != entry}}

    def _changes(self, values: list[Any], known: Heap) -> Message:
        try:
            return {"h": self._reply(None, values, known)["h"]}
        except Exception:
            return {"h": {}}

    def send(self, message: Message) -> None:
        """Write one message. Raises Gone if nobody reads."""
        data = json.dumps(message, separators=(",", ":")).encode()
        view = memoryview(len(data).to_bytes(8, "big") + data)
        try:
            while view:
                view = view[os.write(confine.RPC_OUT, view) :]
        except OSError as error:
            raise Gone(f"the other process does not listen: {error}") from None

    def receive(self) -> Message:
        """Read one message. Raises Gone at the end of the line."""
        size = int.from_bytes(_exactly(8), "big")
        if size > _MAX_MESSAGE:
            raise Gone("a message that is too long")
        try:
            message = json.loads(_exactly(size))
        except (ValueError, RecursionError):
            raise Gone("a message that is not JSON") from None
        if not isinstance(message, dict):
            raise Gone("a message that is none")
        return message


def _exactly(size: int) -> bytes:
    chunks = []
    while size:
        try:
            chunk = os.read(confine.RPC_IN, min(size, 1 << 20))
        except OSError as error:
            raise Gone(str(error)) from None
        if not chunk:
            raise Gone("the other process has ended")
        chunks.append(chunk)
        size -= len(chunk)
    return b"".join(chunks)
