"""How hard a server may be driven: a window that adapts, and rates. Pure: the time is an argument."""

from __future__ import annotations


class Window:
    """How many requests may be in flight: additive increase, multiplicative decrease.

    It starts at the maximum (what the user wrote is believed until the server objects), shrinks by `CUT` at most once
    per round trip, and grows back by a 32nd of the maximum per round trip.
    """

    CUT = 0.7

    def __init__(self, most: int) -> None:
        self.limit = float(most)
        self._most = float(most)
        self._step = max(1.0, most / 32)
        self._cut_at = float("-inf")

    def grow(self) -> None:
        """A request succeeded."""
        if self.limit < self._most:
            self.limit = min(self._most, self.limit + self._step / self.limit)

    def shrink(self, started: float, now: float) -> None:
        """A request begun at `started` shows overload. Those begun before the last cut say nothing new."""
        if started >= self._cut_at:
            self.limit = max(1.0, self.limit * self.CUT)
            self._cut_at = now


class Rate:
    """So many units per minute, spread evenly: a bucket that holds one second's worth (one unit at least).

    It may be overdrawn by a single large need, and then stays shut until the debt is gone.
    """

    def __init__(self, per_minute: float | None, now: float) -> None:
        self._per_second = None if per_minute is None else per_minute / 60
        self._room = max(1.0, self._per_second or 0.0)
        self._level, self._at = self._room, now

    def delay(self, need: float, now: float) -> float:
        """Seconds until `need` units may go."""
        if self._per_second is None:
            return 0.0
        self._fill(now)
        return max(0.0, (min(need, self._room) - self._level) / self._per_second)

    def take(self, need: float) -> None:
        """Use units; negative to give some back."""
        if self._per_second is not None:
            self._level = min(self._room, self._level - need)

    def _fill(self, now: float) -> None:
        assert self._per_second is not None
        self._level = min(self._room, self._level + (now - self._at) * self._per_second)
        self._at = now


class Circuit:
    """Stops a run that meets nothing but failures.

    After `trip_at` failures in a row the circuit is open: nothing is sent but a probe, after each of `probes` seconds.
    A success closes it; when the last probe has failed it is `stopped` for good, with the sentence to show.
    """

    def __init__(self, trip_at: int, probes: tuple[float, ...]) -> None:
        self.stopped: str | None = None
        self.probe_at: float | None = None
        self._trip_at, self._probes = trip_at, probes
        self._failures = self._probe = 0

    def succeeded(self) -> None:
        """The server does its work."""
        self._failures = self._probe = 0
        self.probe_at = None

    def failed(self, now: float, detail: str, probing: bool) -> None:
        """A request failed in a way that others may share."""
        self._failures += 1
        if self.probe_at is None and self._failures >= self._trip_at:
            self.probe_at = now + self._probes[0]
        elif probing:
            self._probe += 1
            if self._probe < len(self._probes):
                self.probe_at = now + self._probes[self._probe]
            else:
                self.stop(f"the last {self._failures} attempts all failed; the last one: {detail}")

    def stop(self, why: str) -> None:
        """No request can succeed."""
        self.stopped = self.stopped or why
