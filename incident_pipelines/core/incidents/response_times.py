"""How fast an incident was noticed, answered and repaired, and how each figure was computed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import fmean

from incident_pipelines.core.incidents.incident import Incident

_KNOWN = "when it was known"


@dataclass(frozen=True)
class ResponseTime:
    """One figure.

    Args:
        seconds: None where it has not ended yet.
        how: in words, with both instants.
    """

    name: str
    seconds: float | None
    how: str


@dataclass(frozen=True)
class MeanTimes:
    """Means over incidents.

    Args:
        mttd_seconds, mttr_seconds: None where no incident counts.
    """

    mttd_seconds: float | None
    mttr_seconds: float | None
    how: str


def response_times(incident: Incident) -> tuple[ResponseTime, ...]:
    """Return time to detect, to respond, to contain and to recover."""
    began = (
        "when it began by the person who opened it"
        if incident.source == "person"
        else "when the earliest of its signals became true by its rule"
    )
    return (
        ResponseTime(
            "time to detect",
            _seconds(incident.began_at, incident.detected_at),
            f"from {_at(incident.began_at)} ({began}) to {_at(incident.detected_at)} ({_KNOWN})",
        ),
        _since_known(
            incident, "time to respond", incident.acknowledged_at, f"acknowledged by {incident.acknowledged_by}"
        ),
        _since_known(incident, "time to contain", incident.contained_at, "first contained"),
        _since_known(incident, "time to recover", incident.recovered_at, "data proven right"),
    )


def mean_times(incidents: Iterable[Incident]) -> MeanTimes:
    """Return MTTD (began to detected) and MTTR (detected to recovered) over incidents.

    What a person opened without saying since when has no time to detect, and what was not proven right none to recover:
    neither counts.
    """
    seen = list(incidents)
    detected = [
        _seconds(one.began_at, one.detected_at)
        for one in seen
        if one.source != "person" or one.began_at != one.detected_at
    ]
    recovered = [_seconds(one.detected_at, one.recovered_at) for one in seen if one.recovered_at is not None]
    how = (
        f"MTTD: mean of detected minus began over {len(detected)} incidents; "
        f"MTTR: mean of recovered minus detected over {len(recovered)} incidents that were proven recovered"
    )
    return MeanTimes(_mean(detected), _mean(recovered), how)


def duration_text(duration: timedelta | float) -> str:
    """Return a duration as a person reads it: ``43 s``, ``12 min``, ``3 h 5 min``, ``2 d 4 h``."""
    seconds = abs(duration.total_seconds() if isinstance(duration, timedelta) else duration)
    if seconds < 99.5:
        return f"{seconds:.1f} s" if 0 < seconds < 9.95 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h" + (f" {minutes % 60} min" if minutes % 60 else "")
    hours = round(minutes / 60)
    return f"{hours // 24} d" + (f" {hours % 24} h" if hours % 24 else "")


def _since_known(incident: Incident, name: str, end: datetime | None, end_is: str) -> ResponseTime:
    start = f"from {_at(incident.detected_at)} ({_KNOWN})"
    if end is None:
        return ResponseTime(name, None, f"{start}; {'not over yet' if incident.is_open else 'never came to it'}")
    return ResponseTime(name, _seconds(incident.detected_at, end), f"{start} to {_at(end)} ({end_is})")


def _seconds(start: datetime, end: datetime) -> float:
    return max((end - start).total_seconds(), 0.0)


def _mean(seconds: Sequence[float]) -> float | None:
    return fmean(seconds) if seconds else None


def _at(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M:%S} UTC"
