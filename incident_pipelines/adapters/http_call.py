"""One HTTP request to an application, and what it answered; nothing is followed, nothing is repeated."""

import http.client
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote, urlsplit

from incident_pipelines.core.errors import SourceUnavailable

MAX_ANSWER_BYTES = 2_000


@dataclass(frozen=True)
class Answer:
    """What came back.

    Args:
        status: None where nothing did: whether the request was carried out is not known.
        text: first line of the body, or why there was no answer.
    """

    status: int | None
    text: str


def call(
    url: str, method: Literal["POST", "PUT"], path: str, key: str, idempotency_key: str, timeout_seconds: float
) -> Answer:
    """Send a request without a body.

    Args:
        url: of the service, http or https.
        path: with ``{key}`` where the key goes; it is quoted.
        idempotency_key: header; the same for every request about the same.

    Raises:
        SourceUnavailable: the address is none.
    """
    parsed = urlsplit(url)
    if parsed.scheme not in ("http", "https") or not parsed.hostname:
        raise SourceUnavailable("the address of the service is no http:// or https:// URL")
    kind = http.client.HTTPSConnection if parsed.scheme == "https" else http.client.HTTPConnection
    connection = kind(parsed.hostname, parsed.port, timeout=timeout_seconds)
    target = parsed.path.rstrip("/") + path.replace("{key}", quote(key, safe=""))
    try:
        connection.request(method, target, headers={"Idempotency-Key": idempotency_key, "Content-Length": "0"})
        response = connection.getresponse()
        body = response.read(MAX_ANSWER_BYTES).decode(errors="replace").strip()
        return Answer(response.status, body.splitlines()[0] if body else response.reason)
    except (OSError, http.client.HTTPException, ValueError) as error:
        return Answer(None, str(error) or type(error).__name__)
    finally:
        connection.close()
