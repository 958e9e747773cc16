"""Counts the different events of each of some windows in one pass, whatever their order."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from incident_pipelines.core.contracts.decoder import Envelopes, microseconds
from incident_pipelines.core.windows import TimeWindow

_COMPACT_AT = 500_000

_Integers = NDArray[np.int64]


class WindowCounts:
    """Numbers of different events, 8 bytes of memory for each.

    Ids are told apart by 64 bits: among a hundred million, two that look alike have a chance of 1 to 4,000.

    Args:
        windows: in order, none overlapping another.

    Raises:
        ValueError: they overlap or are not in order.
    """

    def __init__(self, windows: Sequence[TimeWindow]) -> None:
        if any(first.end > second.start for first, second in pairwise(windows)):
            raise ValueError("windows to count must be in order and must not overlap")
        self._starts = np.array([microseconds(window.start) for window in windows], np.int64)
        self._ends = np.array([microseconds(window.end) for window in windows], np.int64)
        self._seen: list[list[_Integers]] = [[] for _ in windows]
        self._oldest: list[int | None] = [None for _ in windows]

    def add(self, envelopes: Envelopes, values: Sequence[bytes | None], sent: Sequence[int | None]) -> None:
        """Count messages in the window of their event time.

        Args:
            values: what tells messages without an event id apart.
            sent: microseconds since 2000-01-01 UTC.
        """
        times = np.asarray(envelopes.event_times, np.int64)
        places = np.searchsorted(self._starts, times, "right") - 1
        inside = (places >= 0) & (times < self._ends[places])
        if not inside.any():
            return
        ids = np.fromiter(
            (
                hash(value if event_id is None else event_id)
                for event_id, value in zip(envelopes.event_ids, values, strict=True)
            ),
            np.int64,
            len(times),
        )
        for place in map(int, np.unique(places[inside])):
            there = inside & (places == place)
            seen = self._seen[place]
            seen.append(ids[there])
            if len(seen) > 1 and sum(map(len, seen[1:])) >= _COMPACT_AT:
                self._seen[place] = [np.unique(np.concatenate(seen))]
            known = [at for at in (sent[index] for index in np.flatnonzero(there).tolist()) if at is not None]
            if known:
                before = self._oldest[place]
                self._oldest[place] = min(known) if before is None else min(before, *known)

    def events(self) -> list[int]:
        """Return the number of different events of each window."""
        return [len(np.unique(np.concatenate(seen))) if seen else 0 for seen in self._seen]

    def oldest(self) -> list[int | None]:
        """Return when the first of each window's messages was sent, in microseconds since 2000-01-01 UTC."""
        return list(self._oldest)
