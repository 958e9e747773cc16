"""The app's HTTP interface on the loopback address: an account that is paid for is activated, once, on request."""

import logging
import re
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import msgspec

from incident_pipelines.adapters.logs import fields
from incident_pipelines.core.errors import SourceUnavailable
from incident_pipelines.example.service.billing import SERVER_TIMEOUT_SECONDS
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


class _Handler(BaseHTTPRequestHandler):
    server: AppServer  # pyright: ignore[reportIncompatibleVariableOverride]
    timeout = SERVER_TIMEOUT_SECONDS
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer a request; the name is given by the standard library."""
        self.close_connection = True
        found = _ACTIVATION.fullmatch(self.path)
        if found is None:
            return self._reply(404, {"error": "no such path"})
        try:
            status = "activated" if self.server.complete(found[1]) else "was active already"
            return self._reply(200, {"status": status})
        except UnknownRegistration as error:
            return self._reply(404, {"error": str(error)})
        except ActivationRefused as error:
            return self._reply(409, {"error": str(error)})
        except SourceUnavailable as error:
            LOGGER.warning("request failed", extra=fields(path=self.path, cause=str(error)))
            return self._reply(503, {"error": "what it depends on does not answer"})
        except Exception:
            LOGGER.exception("request failed", extra=fields(path=self.path))
            return self._reply(500, {"error": "internal error"})

    def log_message(self, format: str, *args: object) -> None:
        """Keep the standard library's access log out of the structured one."""

    def _reply(self, status: int, answer: object) -> None:
        body = msgspec.json.encode(answer)
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            LOGGER.info("client was gone before the answer", extra=fields(path=self.path))
