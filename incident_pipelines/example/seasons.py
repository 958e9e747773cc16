"""How sign-ups spread over the week, regions, platforms and client versions: pure functions of the time."""

from datetime import UTC, datetime

MINUTES_PER_HOUR = 60
MINUTES_PER_DAY = 24 * MINUTES_PER_HOUR
# 1970-01-01 was a Thursday; weekdays count from Monday.
_EPOCH_WEEKDAY = 3

REGIONS = ("eu", "us")
PLATFORMS = ("ios", "android", "web")
REGION_SHARE = {"eu": 0.55, "us": 0.45}
PLATFORM_SHARE = {"eu": (0.35, 0.40, 0.25), "us": (0.50, 0.26, 0.24)}
# Standard time the year round: a history that jumps with DST would hide what seasonality is there to show.
UTC_OFFSET_HOURS = {"eu": 1, "us": -6}

_BY_LOCAL_HOUR = (
    0.45, 0.30, 0.22, 0.18, 0.20, 0.30, 0.50, 0.75, 0.95, 1.05, 1.10, 1.15,
    1.25, 1.20, 1.10, 1.10, 1.15, 1.30, 1.50, 1.75, 1.85, 1.70, 1.25, 0.80,
)  # fmt: skip
_BY_WEEKDAY = (1.00, 0.97, 0.98, 1.00, 1.08, 1.18, 1.12)

_RELEASE_EPOCH_DAY = (datetime(2026, 1, 5, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).days
_RELEASE_EVERY_DAYS = 14
# Shops review mobile clients, and users update late; web is deployed within hours.
_RELEASE_DELAY_DAYS = {"ios": 2.0, "android": 4.0, "web": 0.0}
_ROLLOUT_DAYS = {"ios": 8.0, "android": 11.0, "web": 0.25}


def _weights_by_hour_of_week() -> tuple[float, ...]:
    weights = [by_day * by_hour for by_day in _BY_WEEKDAY for by_hour in _BY_LOCAL_HOUR]
    mean = sum(weights) / len(weights)
    return tuple(weight / mean for weight in weights)


_WEIGHTS = _weights_by_hour_of_week()


def weight(region: str, minute: int) -> float:
    """Return how busy a region is compared with its mean over a week.

    Args:
        region: one of `REGIONS`.
        minute: minutes since 1970-01-01 UTC.
    """
    hours = minute // MINUTES_PER_HOUR + UTC_OFFSET_HOURS[region]
    weekday = (hours // 24 + _EPOCH_WEEKDAY) % 7
    return _WEIGHTS[weekday * 24 + hours % 24]


def attempts_per_second(rate: float, minute: int) -> tuple[float, ...]:
    """Return the expected sign-up attempts a second in each of `REGIONS` during a minute.

    Args:
        rate: mean over a week, attempts a second in all regions together.
        minute: minutes since 1970-01-01 UTC.
    """
    return tuple(rate * REGION_SHARE[region] * weight(region, minute) for region in REGIONS)


def app_versions(platform: str, minute: int) -> tuple[str, str, float]:
    """Return the version that is being rolled out, the one before it, and the share of clients that have the new one.

    Args:
        platform: one of `PLATFORMS`.
        minute: minutes since 1970-01-01 UTC.
    """
    days = minute / MINUTES_PER_DAY - _RELEASE_EPOCH_DAY - _RELEASE_DELAY_DAYS[platform]
    release, age_days = divmod(days, _RELEASE_EVERY_DAYS)
    number = max(int(release), 0)
    return f"4.{number + 1}.0", f"4.{number}.0", min(1.0, max(0.0, age_days / _ROLLOUT_DAYS[platform]))
