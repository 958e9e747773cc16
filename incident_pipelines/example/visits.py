"""Who comes, when, and how it ends: drawn from a seed and a minute, without a clock.

Visits that start in a minute depend on the seed, the rate and that minute alone, so a range gives the same visits
whatever way it is cut. Sign-ups that take long are drawn apart (*late* visits): whoever wants the events of a window
has to look back hours for the few late ones, and only minutes for all others.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from hashlib import sha256
from itertools import accumulate
from random import Random

from incident_pipelines.example import identities
from incident_pipelines.example.plans import PLANS
from incident_pipelines.example.seasons import PLATFORM_SHARE, PLATFORMS, REGIONS, app_versions, attempts_per_second

MICROSECONDS = 1_000_000
MINUTE_US = 60 * MICROSECONDS

DECLINED_SHARE = 0.03
# Natural failures; the objective allows 0.2 % of attempts.
FAILED_SHARE = 0.0014
LATE_SHARE = 0.011
# Of the late ones; captures are late more often than activations, of which 99.8 % have to follow within 5 minutes.
LATE_ACTIVATION_SHARE = 0.1
# Visits that end in a sign-up attempt.
CONVERSION = 0.25
GBP_SHARE = 0.2

# No visit that is not late reaches further than this from its start; a late one not further than the second.
REACH_MINUTES = 10
LATE_REACH_MINUTES = 375

_PAGES = ("/", "/premium", "/pricing", "/signup", "/checkout")
_BROWSED = ("/", "/premium", "/pricing", "/help", "/signup")
_FAILURES = ("internal_error", "processor_error", "billing_unavailable")
_PLAN_SHARES = tuple(accumulate(plan.share for plan in PLANS))
_PLATFORM_SHARES = {region: tuple(accumulate(shares)) for region, shares in PLATFORM_SHARE.items()}


@dataclass(frozen=True)
class World:
    """Everything that decides which visits there are.

    Args:
        seed: any integer.
        rate: sign-up attempts a second, mean over a week.
        stream: keeps the ids of one use apart from another's (history, live).
    """

    seed: int
    rate: float
    stream: str = "history"


@dataclass(slots=True)
class SignUp:
    """One sign-up attempt and the instant of each of its steps (microseconds since 1970, None if it never happens)."""

    registration_id: str
    user_id: str
    plan_id: str
    currency: str
    amount: Decimal
    region: str
    platform: str
    app_version: str
    submitted_us: int
    created_us: int
    initiated_us: int | None = None
    authorized_us: int | None = None
    captured_us: int | None = None
    activated_us: int | None = None
    invoiced_us: int | None = None
    payment_failed_us: int | None = None
    failed_us: int | None = None
    failure_reason: str | None = None

    @property
    def last_us(self) -> int:
        """Instant of the last step."""
        return self.failed_us or self.invoiced_us or self.created_us

    def registration_at(self, instant_us: int) -> tuple[str, str | None, int | None]:
        """Return status, failure reason and activation instant of the registration before an instant."""
        if self.failed_us is not None and self.failed_us < instant_us:
            return "failed", self.failure_reason, None
        if self.activated_us is not None and self.activated_us < instant_us:
            return "activated", None, self.activated_us
        if self.captured_us is not None and self.captured_us < instant_us:
            return "captured", None, None
        if self.authorized_us is not None and self.authorized_us < instant_us:
            return "authorized", None, None
        return "initiated", None, None

    def payment_at(self, instant_us: int) -> tuple[str, str | None, int | None]:
        """Return status, failure reason and capture instant of the payment before an instant."""
        if self.payment_failed_us is not None and self.payment_failed_us < instant_us:
            return "failed", self.failure_reason, None
        if self.captured_us is not None and self.captured_us < instant_us:
            return "captured", None, self.captured_us
        if self.authorized_us is not None and self.authorized_us < instant_us:
            return "authorized", None, None
        return "initiated", None, None


@dataclass(slots=True)
class Visit:
    """One session: the pages it saw (instant in microseconds since 1970, path) and the sign-up it led to, if any."""

    session_id: str
    region: str
    platform: str
    app_version: str
    pages: list[tuple[int, str]]
    sign_up: SignUp | None


def draw_visits(world: World, minute: int, *, late: bool) -> Iterator[Visit]:
    """Yield the visits that start in a minute, in order of their start.

    Args:
        world: seed, rate and stream.
        minute: minutes since 1970-01-01 UTC.
        late: the few whose sign-up takes minutes or hours, or all others.
    """
    material = f"{world.seed}:{float(world.rate)!r}:{world.stream}:{minute}:{'late' if late else 'usual'}"
    random = Random(int.from_bytes(sha256(material.encode()).digest()))
    by_region = attempts_per_second(world.rate, minute)
    attempts = sum(by_region)
    if attempts <= 0:
        return
    eu_share = by_region[0] / attempts
    visits_per_second = attempts * (LATE_SHARE if late else (1 - LATE_SHARE) / CONVERSION)
    versions = {platform: app_versions(platform, minute) for platform in PLATFORMS}
    start_us = minute * MINUTE_US
    elapsed_seconds = 0.0
    while True:
        # Exponential gaps: a Poisson process, and arrivals come sorted.
        elapsed_seconds -= math.log(1.0 - random.random()) / visits_per_second
        if elapsed_seconds >= 60.0:
            return
        region = REGIONS[0] if random.random() < eu_share else REGIONS[1]
        platform = PLATFORMS[_pick(_PLATFORM_SHARES[region], random.random())]
        newest, previous, share = versions[platform]
        app_version = newest if random.random() < share else previous
        session_id = _random_id(random)
        seen_us = start_us + int(elapsed_seconds * MICROSECONDS)
        pages: list[tuple[int, str]] = []
        if late or random.random() < CONVERSION:
            first = _pick((0.35, 0.75, 1.0), random.random())
            for page in _PAGES[first:]:
                pages.append((seen_us, page))
                seen_us += _pause_us(random)
            sign_up = _draw_sign_up(random, region, platform, app_version, seen_us, late)
        else:
            for _ in range(1 + _pick((0.58, 0.86, 1.0), random.random())):
                pages.append((seen_us, _BROWSED[int(random.random() * len(_BROWSED))]))
                seen_us += _pause_us(random)
            sign_up = None
        yield Visit(session_id, region, platform, app_version, pages, sign_up)


def _draw_sign_up(
    random: Random, region: str, platform: str, app_version: str, submitted_us: int, late: bool
) -> SignUp:
    registration_id = _random_id(random)
    currency = "USD" if region == "us" else "GBP" if random.random() < GBP_SHARE else "EUR"
    plan = PLANS[_pick(_PLAN_SHARES, random.random())]
    submitted_us, created_us = _same_minute(submitted_us, submitted_us + _between_us(random, 0.015, 0.09))
    sign_up = SignUp(
        registration_id,
        identities.name_based_id(f"{registration_id}:user"),
        plan.plan_id,
        currency,
        plan.prices[currency],
        region,
        platform,
        app_version,
        submitted_us,
        created_us,
    )
    ending = 1.0 if late else random.random()
    if ending < FAILED_SHARE:
        return _fail(sign_up, random)
    initiated_us = sign_up.initiated_us = created_us + _between_us(random, 0.03, 0.2)
    if ending < FAILED_SHARE + DECLINED_SHARE:
        sign_up.failure_reason = "card_declined"
        sign_up.payment_failed_us = initiated_us + _between_us(random, 0.2, 1.8)
        sign_up.failed_us = sign_up.payment_failed_us + _between_us(random, 0.01, 0.2)
        return sign_up
    sign_up.authorized_us = initiated_us + _between_us(random, 0.2, 1.6)
    capture_seconds = random.uniform(0.1, 0.9)
    activation_seconds = min(0.4 + random.expovariate(1 / 1.5), 25.0)
    if late:
        if random.random() < LATE_ACTIVATION_SHARE:
            activation_seconds = random.uniform(360, 3600) if random.random() < 0.8 else random.uniform(3600, 10800)
        else:
            capture_seconds = random.uniform(120, 2700) if random.random() < 0.8 else random.uniform(2700, 21600)
    sign_up.captured_us = sign_up.authorized_us + int(capture_seconds * MICROSECONDS)
    sign_up.activated_us = sign_up.captured_us + int(activation_seconds * MICROSECONDS)
    sign_up.invoiced_us = sign_up.activated_us + _between_us(random, 0.1, 2.5)
    return sign_up


def _fail(sign_up: SignUp, random: Random) -> SignUp:
    sign_up.failure_reason = _FAILURES[int(random.random() * len(_FAILURES))]
    before_us = sign_up.created_us
    if sign_up.failure_reason == "processor_error":
        sign_up.initiated_us = before_us + _between_us(random, 0.03, 0.2)
        before_us = sign_up.payment_failed_us = sign_up.initiated_us + _between_us(random, 0.5, 4.5)
    # The app gives up on billing after its last retry.
    lasts = (150.0, 250.0) if sign_up.failure_reason == "billing_unavailable" else (0.05, 1.0)
    sign_up.failed_us = before_us + _between_us(random, *lasts)
    return sign_up


def _same_minute(submitted_us: int, created_us: int) -> tuple[int, int]:
    """Both are one transaction of the app, so no cut between minutes may part them."""
    last_us = submitted_us - submitted_us % MINUTE_US + MINUTE_US - 1
    created_us = min(created_us, last_us)
    return min(submitted_us, created_us - 1), created_us


def _pick(cumulative: tuple[float, ...], share: float) -> int:
    for index, bound in enumerate(cumulative):
        if share < bound:
            return index
    return len(cumulative) - 1


def _pause_us(random: Random) -> int:
    return int(min(1.5 - 14 * math.log(1.0 - random.random()), 55.0) * MICROSECONDS)


def _between_us(random: Random, low_seconds: float, high_seconds: float) -> int:
    return int((low_seconds + (high_seconds - low_seconds) * random.random()) * MICROSECONDS)


def _random_id(random: Random) -> str:
    digits = f"{random.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"
