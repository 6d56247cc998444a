"""Who may run: many at once, or one alone."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final


class Gate:
    """Runs share the machine; a repeat that must not be disturbed has it alone.

    `alone` waits for the runs that have begun, and no other begins until it is over: those that wait to be alone go
    first. A run lasts as long as its limits allow, and a thread waits for at most one repeat of each other thread.
    """

    def __init__(self) -> None:
        self.open()

    def open(self) -> None:
        """Nobody runs: at the beginning, and in a forked child, which has none of its parent's other threads."""
        self._changed = threading.Condition()
        self._running = 0
        self._waiting = 0
        self._alone: int | None = None

    @contextmanager
    def together(self) -> Iterator[None]:
        """Run beside others; at once in the thread that is alone."""
        me = threading.get_ident()
        with self._changed:
            self._changed.wait_for(lambda: self._alone == me or (self._alone is None and not self._waiting))
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Run with nothing else running. May be entered again by the thread that is alone already."""
        me = threading.get_ident()
        if self._alone == me:
            yield
            return
        with self._changed:
            self._waiting += 1
            self._changed.wait_for(lambda: self._alone is None and not self._running)
            self._waiting -= 1
            self._alone = me
        try:
            yield
        finally:
            with self._changed:
                self._alone = None
                self._changed.notify_all()


MACHINE: Final = Gate()
"""The one of this process: sandboxes disturb each other wherever they were made."""
os.register_at_fork(after_in_child=MACHINE.open)
