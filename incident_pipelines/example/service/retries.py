"""When a call that failed is tried again."""

from random import Random

FIRST_DELAYS_SECONDS = (0.1, 0.4, 1.6)
FACTOR = 4.0
MAX_DELAY_SECONDS = 120.0
MAX_ATTEMPTS = 8


def delay_seconds(failed_attempts: int, random: Random) -> float | None:
    """Return how long to wait, or None when it is time to give up.

    Args:
        failed_attempts: attempts so far, from 1.
        random: source of the jitter: the later delays are drawn between half and all of what backoff gives.
    """
    if failed_attempts >= MAX_ATTEMPTS:
        return None
    if failed_attempts <= len(FIRST_DELAYS_SECONDS):
        return FIRST_DELAYS_SECONDS[failed_attempts - 1]
    backoff = FIRST_DELAYS_SECONDS[-1] * FACTOR ** (failed_attempts - len(FIRST_DELAYS_SECONDS))
    return min(backoff, MAX_DELAY_SECONDS) * random.uniform(0.5, 1.0)
