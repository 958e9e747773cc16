"""What every recovery source offers, and what they share: messages are placed by the time that landing would see."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import NamedTuple, Protocol

import numpy as np

from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.contracts.decoder import EPOCH_MILLISECONDS, Envelopes, microseconds
from incident_pipelines.core.contracts.run_decoder import MessageDecoder
from incident_pipelines.core.landing import Messages
from incident_pipelines.core.recovery.coverage import Coverage
from incident_pipelines.core.windows import TimeWindow

BATCH = 5_000


class Replayable(NamedTuple):
    """Messages of a window with their envelopes, at least one, as the landing log takes them."""

    messages: Messages
    envelopes: Envelopes


@dataclass(frozen=True)
class Problem:
    """Something of a source that could not be read, or that belongs to nobody knows when.

    Args:
        place: where in the source.
    """

    place: str
    reason: str


Problems = Callable[[Problem], None]


def problem_at(place: tuple[object, ...], reason: str) -> Problem:
    """Return the problem with what stands at a place."""
    return Problem("".join(map(str, place)), reason)


class RecoverySource(Protocol):
    """Reads events again and changes nothing."""

    def coverage(self, dataset: str, windows: Sequence[TimeWindow]) -> list[Coverage]:
        """Return what it can replay of each window; where it does not answer, that.

        Args:
            dataset: a landed dataset of the catalog.
            windows: in order, none overlapping another; they are looked at in one pass where that is possible.
        """
        ...

    def replayable(self, dataset: str, window: TimeWindow, problems: Problems) -> Iterator[Replayable]:
        """Yield the messages whose event time lies in a window, with bounded memory.

        Messages that break their contract are among them, as landing has them: they are its dead letters. One may come
        more than once.

        Args:
            problems: told of whatever cannot be yielded.

        Raises:
            SourceUnavailable: it does not answer, or not to the end; what came before is not all.
        """
        ...


class Found(NamedTuple):
    """A message as a source has it.

    Args:
        sent: milliseconds since 1970-01-01 UTC; None where the source does not know.
        place: where in the source, for messages: put together when it is told.
    """

    sent: int | None
    key: bytes | None
    value: bytes
    place: tuple[object, ...]


class Decoded(NamedTuple):
    """Messages with what the decoder of their dataset sees in them; `sent` in microseconds since 2000-01-01 UTC."""

    found: Sequence[Found]
    sent: Sequence[int | None]
    envelopes: Envelopes


def decoded(catalog: Catalog, dataset: str, found: Iterable[Found], problems: Problems) -> Iterator[Decoded]:
    """Yield messages in batches, decoded as landing does it.

    Args:
        problems: told of messages that break their contract and whose time nobody knows.
    """
    decoder = MessageDecoder(catalog.landed[dataset], catalog.start)
    messages = iter(found)
    while batch := list(islice(messages, BATCH)):
        sent = [None if one.sent is None else (one.sent - EPOCH_MILLISECONDS) * 1000 for one in batch]
        now = microseconds(datetime.now(UTC))
        envelopes = decoder.envelopes([one.value for one in batch], sent, now)
        for one, reason, path in zip(batch, envelopes.reasons, envelopes.reason_paths, strict=True):
            if reason is not None and one.sent is None:
                problems(problem_at(one.place, f"breaks its contract: {reason} at {path}"))
        yield Decoded(batch, sent, envelopes)


def in_window(batches: Iterable[Decoded], window: TimeWindow) -> Iterator[Replayable]:
    """Yield the messages whose event time lies in a window.

    What does not say when it was sent, was sent when it happened.
    """
    start, end = microseconds(window.start), microseconds(window.end)
    for batch in batches:
        times = np.asarray(batch.envelopes.event_times, np.int64)
        places = np.flatnonzero((times >= start) & (times < end)).tolist()
        if not places:
            continue
        found = [batch.found[place] for place in places]
        happened = (times[places] // 1000 * 1000).tolist()
        sent = [batch.sent[place] for place in places]
        messages = Messages.of(
            [one.value for one in found],
            [happened[number] if at is None else at for number, at in enumerate(sent)],
            keys=[one.key for one in found],
        )
        yield Replayable(messages, batch.envelopes.taken(places))
