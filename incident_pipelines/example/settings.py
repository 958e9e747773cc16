"""What the example is told by its environment."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from incident_pipelines.core.errors import IncidentPipelinesError

# Sign-up attempts a second, by history and live service alike: a forecast made from the one has to hold for the other.
# Each attempt leaves about 16 events. So 0.1 shows an event or two a second in the UI, while 8 days of history (about
# 1.1 million events) are still loaded within the first minute.
RATE = 0.1
MAX_LIVE_RATE = 10.0
SEED = 1


class InvalidSetting(IncidentPipelinesError):
    """An option or an environment variable of the example cannot be used; the message says which and why."""


@dataclass(frozen=True)
class Settings:
    """Where the example's databases, topics and files are.

    Args:
        app_url: SQLAlchemy URL of the app database; empty in a process that has no business there.
        billing_url: SQLAlchemy URL of the billing database; likewise.
        kafka: bootstrap servers.
        home: state folder of the stack; audit log and ground truth are below it.
        rate: sign-up attempts a second.
        topic_prefix: put before the topics' names, for two examples on one broker.
        app_service: where the app's HTTP interface listens; empty: nowhere.
    """

    app_url: str
    billing_url: str
    kafka: str
    home: Path
    rate: float = RATE
    topic_prefix: str = ""
    app_service: str = ""

    @property
    def folder(self) -> Path:
        """Folder of the example's own files."""
        return self.home / "example"


def settings_from(environment: Mapping[str, str], *, app: bool = True, billing: bool = True) -> Settings:
    """Read the settings.

    Args:
        environment: variables as in `os.environ`.
        app: whether the app database is needed; a service is told its own database only.
        billing: whether the billing database is needed.

    Raises:
        InvalidSetting: a variable is missing or makes no sense.
    """
    return Settings(
        _required(environment, "APP_DATABASE_URL") if app else "",
        _required(environment, "BILLING_DATABASE_URL") if billing else "",
        _required(environment, "KAFKA_BOOTSTRAP_SERVERS"),
        Path(environment.get("INCIDENT_PIPELINES_HOME") or ".local").absolute(),
        _rate(environment),
        environment.get("EXAMPLE_TOPIC_PREFIX", ""),
        environment.get("APP_SERVICE_URL", ""),
    )


def instant_from(text: str) -> datetime:
    """Parse ISO 8601; without an offset it is UTC.

    Raises:
        ValueError: the text is no timestamp.
    """
    instant = datetime.fromisoformat(text.strip())
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


def process_environment() -> Mapping[str, str]:
    """Return the environment of this process."""
    return os.environ


def _required(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name)
    if not value:
        raise InvalidSetting(
            f"{name} is not set: start the stack with `incident-pipelines up`, or set it to your own address"
        )
    return value


def _rate(environment: Mapping[str, str]) -> float:
    text = environment.get("EXAMPLE_RATE") or str(RATE)
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    if not 0 < rate <= MAX_LIVE_RATE:
        raise InvalidSetting(
            f"EXAMPLE_RATE is {text!r}: it must be a number of sign-ups a second in (0, {MAX_LIVE_RATE:g}]"
        )
    return rate
