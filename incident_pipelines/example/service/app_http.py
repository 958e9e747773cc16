"""The app's HTTP interface on the loopback address: an account that is paid for is activated, once, on request."""

import logging
import re
from collections.abc import Callable
from http.server import ThreadingHTTPServer
from urllib.parse import urlsplit

from incident_pipelines.adapters.logs import fields
from incident_pipelines.core.errors import SourceUnavailable
from incident_pipelines.example.service.json_http import JsonHandler
from incident_pipelines.example.service.sign_ups import ActivationRefused, UnknownRegistration
from incident_pipelines.example.settings import InvalidSetting

LOGGER = logging.getLogger(__name__)
HOST = "127.0.0.1"
_ACTIVATION = re.compile(r"/registrations/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/activation")

Complete = Callable[[str], bool]
"""(registration id) → whether it was activated now; see `SignUps.complete`."""


class AppServer(ThreadingHTTPServer):
    """Serves ``POST /registrations/ID/activation``.

    Args:
        url: where it listens, ``http://127.0.0.1:PORT``; port 0 takes a free one.
        complete: activates an account.

    Raises:
        InvalidSetting: it cannot listen there.
    """

    daemon_threads = True

    def __init__(self, url: str, complete: Complete) -> None:
        self.complete = complete
        parsed = urlsplit(url)
        if parsed.scheme != "http" or parsed.hostname != HOST or parsed.port is None:
            raise InvalidSetting(f"APP_SERVICE_URL is {url!r}: http://{HOST}:PORT is expected")
        try:
            super().__init__((HOST, parsed.port), _Handler)
        except OSError as error:
            raise InvalidSetting(f"APP_SERVICE_URL: port {parsed.port} cannot be used: {error}") from error


class _Handler(JsonHandler):
    server: AppServer  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_POST(self) -> None:  # noqa: N802
        """Answer a request; the name is given by the standard library."""
        self.close_connection = True
        found = _ACTIVATION.fullmatch(self.path)
        if found is None:
            return self.reply(404, {"error": "no such path"})
        try:
            status = "activated" if self.server.complete(found[1]) else "was active already"
            return self.reply(200, {"status": status})
        except UnknownRegistration as error:
            return self.reply(404, {"error": str(error)})
        except ActivationRefused as error:
            return self.reply(409, {"error": str(error)})
        except SourceUnavailable as error:
            LOGGER.warning("request failed", extra=fields(path=self.path, cause=str(error)))
            return self.reply(503, {"error": "what it depends on does not answer"})
        except Exception:
            LOGGER.exception("request failed", extra=fields(path=self.path))
            return self.reply(500, {"error": "internal error"})
