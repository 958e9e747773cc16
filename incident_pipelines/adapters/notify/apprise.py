"""Sends reports through Apprise to addresses of the environment; an address is a secret, and shown nowhere."""

import hashlib
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import StringIO
from typing import Literal, cast

import apprise

from incident_pipelines.core.incidents.severity import IncidentSeverity

NOTIFY_VARIABLE = "INCIDENT_PIPELINES_NOTIFY"
"""Addresses of everything, separated by white space; with `_P0` and so on those that get that severity as well."""

Tone = Literal["info", "success", "warning", "failure"]
_SECONDS = 10
_LONGEST_ERROR = 300


@dataclass(frozen=True)
class Address:
    """Where reports are sent to.

    Args:
        place: how it is called in messages: its variable and its place in there.
        digest: tells it from the others.
        url: a secret.
    """

    place: str
    digest: str
    url: str = field(repr=False)


def addresses_for(environment: Mapping[str, str], severity: IncidentSeverity) -> list[Address]:
    """Return the addresses that are told of incidents of a severity, each once."""
    found: dict[str, Address] = {}
    for variable in (NOTIFY_VARIABLE, f"{NOTIFY_VARIABLE}_{severity}"):
        for number, url in enumerate(environment.get(variable, "").split(), start=1):
            digest = hashlib.sha256(url.encode()).hexdigest()[:16]
            found.setdefault(digest, Address(f"address {number} of {variable}", digest, url))
    return list(found.values())


def send(address: Address, title: str, body: str, tone: Tone) -> str | None:
    """Send a report to one address.

    Args:
        body: Markdown; Apprise makes of it what the receiver understands.

    Returns:
        None if it was taken; else why not, without the address.
    """
    # What plugins and their requests log may hold parts of an address.
    logging.getLogger("apprise").propagate = False
    logging.getLogger("urllib3").setLevel(logging.INFO)
    notifier = apprise.Apprise(asset=_asset())
    with apprise.LogCapture(level=logging.WARNING, fmt="%(message)s") as captured:
        try:
            if not notifier.add(address.url):
                return f"{address.place} is no address that Apprise knows; see its list of services"
            sent = notifier.notify(
                body=body,
                title=title,
                notify_type=apprise.NotifyType(tone),
                body_format=apprise.NotifyFormat.MARKDOWN,
                interpret_escapes=False,
                timeout=_SECONDS,
            )
        except Exception as error:  # whatever a plugin does, reports of others go out
            return f"{address.place} failed: {type(error).__name__}"
        told = cast(StringIO, captured).getvalue()
    return None if sent else f"{address.place} did not take it: {_without_secrets(told, address.url)}"


def _asset() -> apprise.AppriseAsset:
    """Apprise without plugins of others, files of its own, and templates: what is sent is text."""
    return apprise.AppriseAsset(
        app_id="incident-pipelines",
        app_desc="incident-pipelines",
        app_url="",
        async_mode=False,
        secure_logging=True,
        allow_templates=False,
        storage_mode=apprise.PersistentStoreMode.MEMORY,
    )


def _without_secrets(told: str, url: str) -> str:
    """Return what Apprise told without any part of the address: each may be a password or a token."""
    for part in sorted(set(re.split(r"[^\w.-]+", url)), key=len, reverse=True):
        if len(part) >= 4:
            told = told.replace(part, "…")
    return " ".join(told.split())[:_LONGEST_ERROR] or "no reason was given"
