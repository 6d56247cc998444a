"""What `with` does for everything that has a `close`."""

from __future__ import annotations

from types import TracebackType
from typing import Self


class Closing:
    """Something that is closed at the end of a `with`."""

    def close(self) -> None:
        """Let go of everything."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
