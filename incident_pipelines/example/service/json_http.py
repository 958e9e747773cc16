"""What the HTTP interfaces of the example share: JSON answers, one request a connection."""

import logging
from http.server import BaseHTTPRequestHandler

import msgspec

from incident_pipelines.adapters.logs import fields
from incident_pipelines.example.service.billing import SERVER_TIMEOUT_SECONDS

LOGGER = logging.getLogger(__name__)


class JsonHandler(BaseHTTPRequestHandler):
    """Answers requests with JSON; what they are is for those who derive from it."""

    timeout = SERVER_TIMEOUT_SECONDS
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Keep the standard library's access log out of the structured one."""

    def reply(self, status: int, answer: object) -> None:
        """Send an answer; a client that has gone meanwhile asks again."""
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
