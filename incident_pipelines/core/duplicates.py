"""When copies of events are more than a producer's retries explain."""

PAGE_SHARE = 0.001
CRITICAL_SHARE = 0.01
"""SPEC §6, uniqueness violations: shares (0 to 1) of a window's events."""

MIN_COPIES = 5
"""A small window reaches any share with a single retry."""


def is_worth_telling(events: int, copies: int, told: int = 0) -> bool:
    """Whether so many copies are a fact of their own.

    While a producer goes on, a window gets copies with every publish: they are told again when they have doubled.

    Args:
        events: that came, copies included.
        copies: of these.
        told: copies of the same window that were told before.
    """
    return copies >= max(MIN_COPIES, 2 * told) and copies > events * PAGE_SHARE
