"""The journal: replies by request key, one JSON line per response, written as it arrives.

A line is written by one system call to a file opened for appending, so that killing the process loses nothing that was
written; `sync` (when a client closes) makes it survive a power cut too. Each process appends to a file of its own in
the folder, held by a lock that dies with it: the next process takes the file over, after cutting off a torn last line.
Files of other processes are read again when they have grown, at most once a second.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import orjson

from schemas.errors import RecipeError
from stages.llm.journal_files import Appender, Reader, adopt, parse
from stages.llm.request import NoReply, Reply

_OFFSET_BITS: Final = 48
_LOOK_AGAIN_S: Final = 1.0


class Journal:
    """`Journal(folder, replay=[...])`: one folder to write to (None: nothing is kept), any number to replay from.

    `replay` names journal files or folders of them; they are never written to. Failures are recorded, and never given
    as replies. Not for use from several threads at once. Raises RecipeError where a replay path does not exist.
    """

    def __init__(self, folder: Path | None = None, replay: Sequence[Path] = ()) -> None:
        self._folder = folder
        self._index: dict[bytes, int] = {}
        self._readers: list[Reader] = []
        self._own: Appender | None = None
        self._own_number = -1
        self._looked = float("-inf")
        self.damaged = 0
        self._look()
        for path in replay:
            for file in _files(path):
                self._add(Reader(file, finished=True))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        """How many requests have a reply."""
        return len(self._index)

    def get(self, key: str) -> Reply | None:
        """The reply recorded under a request key (32 hex digits), marked as replayed."""
        name = bytes.fromhex(key)
        position = self._index.get(name)
        if position is None and time.monotonic() - self._looked > _LOOK_AGAIN_S:
            self._look()
            position = self._index.get(name)
        if position is None:
            return None
        reply = self._read(key, position)
        if reply is None:
            self.damaged += 1
            del self._index[name]
        return reply

    def put(self, key: str, template: str, answer: Reply | NoReply, about: str = "") -> None:
        """Record what came of a request. Raises RunError where it cannot be written (the disk is full)."""
        if self._folder is None:
            return
        if self._own is None:
            self._take_over(self._folder)
        assert self._own is not None
        offset = self._own.append(_line(key, template, answer, about))
        if isinstance(answer, Reply):
            self._index[bytes.fromhex(key)] = self._own_number << _OFFSET_BITS | offset

    def sync(self) -> None:
        """Have the system write everything to the disk."""
        if self._own is not None:
            self._own.sync()

    def close(self) -> None:
        """Sync, let go of the lock, close every file."""
        if self._own is not None:
            self._own.close()
        for reader in self._readers:
            reader.close()
        self._own, self._readers, self._index = None, [], {}

    def _take_over(self, folder: Path) -> None:
        self._own = adopt(folder)
        self._look()
        self._own_number = next(number for number, one in enumerate(self._readers) if one.path == self._own.path)

    def _look(self) -> None:
        """Index what the folder's files have gained since the last time."""
        self._looked = time.monotonic()
        if self._folder is None or not self._folder.is_dir():
            return
        known = {reader.path for reader in self._readers}
        for path in sorted(self._folder.glob("*.jsonl")):
            if path not in known:
                self._add(Reader(path, finished=False))
        for number, reader in enumerate(self._readers):
            if not reader.finished and number != self._own_number:
                self._take_in(number, reader)

    def _add(self, reader: Reader) -> None:
        self._readers.append(reader)
        if reader.finished:
            self._take_in(len(self._readers) - 1, reader)

    def _take_in(self, number: int, reader: Reader) -> None:
        for name, offset in reader.news():
            self._index.setdefault(name, number << _OFFSET_BITS | offset)
        self.damaged += reader.take_damaged()

    def _read(self, key: str, position: int) -> Reply | None:
        line = self._readers[position >> _OFFSET_BITS].line(position & ((1 << _OFFSET_BITS) - 1))
        value = parse(line)
        if value is None or value["key"] != key:
            return None
        try:
            return Reply(
                value["text"], value["finish_reason"], value["model"], value["tokens_in"], value["tokens_out"],
                value["cost"], True, value.get("reasoning", ""),
            )  # fmt: skip
        except KeyError:
            return None


def _files(path: Path) -> Sequence[Path]:
    if path.is_dir():
        return sorted(path.glob("*.jsonl"))
    if not path.is_file():
        raise RecipeError(f"no journal at {path}: name a .jsonl file or a folder of them")
    return [path]


def _line(key: str, template: str, answer: Reply | NoReply, about: str) -> bytes:
    """Key and ok first: that is all that reading an index needs."""
    now = datetime.now(UTC)
    if isinstance(answer, Reply):
        value: dict[str, Any] = {
            "key": key, "ok": 1, "at": now, "template": template, "model": answer.model,
            "finish_reason": answer.finish_reason, "tokens_in": answer.tokens_in, "tokens_out": answer.tokens_out,
            "cost": answer.cost, "text": answer.text,
        }  # fmt: skip
        if answer.reasoning:
            value["reasoning"] = answer.reasoning
    else:
        value = {
            "key": key, "ok": 0, "at": now, "template": template, "failed": answer.kind, "detail": answer.detail,
            "attempts": answer.attempts,
        }  # fmt: skip
    if about:
        value["about"] = about
    return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_OMIT_MICROSECONDS)
