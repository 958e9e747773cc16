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

Place = tuple[object, ...]
"""Where in a source; put together when it is told."""
Found = tuple[int | None, bytes | None, bytes, Place]
"""A message as a source has it: sent (milliseconds since 1970-01-01 UTC, if the source knows), key, value, place."""


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


def problem_at(place: Place, reason: str) -> Problem:
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


class Decoded(NamedTuple):
    """Messages with what the decoder of their dataset sees in them; `sent` in microseconds since 2000-01-01 UTC."""

    values: Sequence[bytes]
    keys: Sequence[bytes | None]
    sent: Sequence[int | None]
    envelopes: Envelopes


def decoded(catalog: Catalog, dataset: str, found: Iterable[Found], problems: Problems) -> Iterator[Decoded]:
    """Yield messages in batches, by column, decoded as landing does it.

    Args:
        problems: told of messages that break their contract and whose time nobody knows.
    """
    decoder = MessageDecoder(catalog.landed[dataset], catalog.start)
    messages = iter(found)
    while batch := list(islice(messages, BATCH)):
        instants, keys, values, places = zip(*batch, strict=True)
        sent = [None if at is None else (at - EPOCH_MILLISECONDS) * 1000 for at in instants]
        envelopes = decoder.envelopes(values, sent, microseconds(datetime.now(UTC)))
        for number, reason in enumerate(envelopes.reasons):
            if reason is not None and sent[number] is None:
                told = f"breaks its contract: {reason} at {envelopes.reason_paths[number]}"
                problems(problem_at(places[number], told))
        yield Decoded(values, keys, sent, envelopes)


def in_window(batches: Iterable[Decoded], window: TimeWindow) -> Iterator[Replayable]:
    """Yield the messages whose event time lies in a window.

    What does not say when it was sent, was sent when it happened.
    """
    start, end = microseconds(window.start), microseconds(window.end)
    for batch in batches:
        times = np.asarray(batch.envelopes.event_times, np.int64)
        inside = np.flatnonzero((times >= start) & (times < end)).tolist()
        if not inside:
            continue
        messages, envelopes = Messages.of(batch.values, batch.sent, keys=batch.keys), batch.envelopes
        if len(inside) < len(times):
            messages, envelopes = messages.taken(inside), envelopes.taken(inside)
        if None in messages.sent:
            happened = (np.asarray(envelopes.event_times, np.int64) // 1000 * 1000).tolist()
            sent = [at if known is None else known for known, at in zip(messages.sent, happened, strict=True)]
            messages = messages._replace(sent=sent)
        yield Replayable(messages, envelopes)
