"""A recoverability map in words."""

from datetime import UTC

from incident_pipelines.core.recovery.coverage import Coverage, Recoverability
from incident_pipelines.core.windows import DAY


def day_text(day: Recoverability) -> str:
    """Return the day of a window, or that it is everything."""
    return f"{day.window.start:%Y-%m-%d}" if day.window.end - day.window.start <= DAY else "everything"


def replays_text(one: Coverage) -> str:
    """Return whether a source can replay; one that is down is unknown."""
    return "unknown" if one.replays is None else "yes" if one.replays else "no"


def events_text(one: Coverage) -> str:
    """Return how many events a source has, or at most."""
    if one.events is not None:
        return f"{one.events:,}"
    return "unknown" if one.at_most is None else f"at most {one.at_most:,}"


def complete_text(one: Coverage) -> str:
    """Return whether a source has all there ever were."""
    if one.replays is None:
        return "unknown"
    return "not provable" if one.complete is None else "complete" if one.complete else "incomplete"


def until_text(one: Coverage) -> str:
    """Return when the first events age out."""
    if not one.replays:
        return ""
    return "stays" if one.until is None else f"{one.until.astimezone(UTC):%Y-%m-%d %H:%M}"


def gone_text(day: Recoverability) -> str:
    """Return what would be gone for good if the landing log were lost now."""
    gone = day.gone_without()
    unsure = f" ({', '.join(gone.unknown)} unknown)" if gone.unknown else ""
    if gone.at_most is None:
        return f"nobody knows{unsure}"
    if gone.at_most == 0:
        return "nothing gone"
    if gone.at_least == gone.at_most:
        return f"{gone.at_most:,} gone{unsure}"
    return f"{gone.at_least:,} to {gone.at_most:,} gone{unsure}"
