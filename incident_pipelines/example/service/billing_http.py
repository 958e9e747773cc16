"""Billing's HTTP interface on the loopback address, and the app's client for it.

The server takes a free port and leaves its address in a file, so that two stacks run side by side.
"""

import http.client
import json
import logging
import os
from collections.abc import Callable
from http.server import ThreadingHTTPServer
from pathlib import Path

import msgspec

from incident_pipelines.adapters.logs import fields
from incident_pipelines.core.errors import SourceUnavailable
from incident_pipelines.example.service.billing import Billing, BillingBusy, PaymentRefused
from incident_pipelines.example.service.json_http import JsonHandler
from incident_pipelines.example.service.messages import InvoiceRequest, PaymentQuestion, PaymentRequest, PaymentState

LOGGER = logging.getLogger(__name__)
HOST = "127.0.0.1"
CLIENT_TIMEOUT_SECONDS = 2.0
MAX_BODY_BYTES = 64_000
_ADDRESS_FILE = "billing.json"


class BillingServer(ThreadingHTTPServer):
    """Serves ``POST /payments``, ``POST /payments/state`` and ``POST /invoices``.

    Args:
        billing: does what is asked.
        folder: where the address is left.
    """

    daemon_threads = True

    def __init__(self, billing: Billing, folder: Path) -> None:
        self.billing = billing
        super().__init__((HOST, 0), _Handler)
        folder.mkdir(parents=True, exist_ok=True)
        address = folder / f"{_ADDRESS_FILE}.{os.getpid()}"
        address.write_text(json.dumps({"host": HOST, "port": self.server_port}), encoding="utf-8")
        address.replace(folder / _ADDRESS_FILE)


class _Handler(JsonHandler):
    server: BillingServer  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_POST(self) -> None:  # noqa: N802
        """Answer a request; the name is given by the standard library."""
        # Nobody sends a second request over a connection: after an error there may be an unread body in it.
        self.close_connection = True
        answers: dict[str, Callable[[bytes], object]] = {
            "/payments": self._pay,
            "/payments/state": self._state,
            "/invoices": self._invoice,
        }
        answer = answers.get(self.path)
        length = self.headers.get("Content-Length", "")
        if answer is None:
            return self.reply(404, {"error": "no such path"})
        if not length.isdigit() or int(length) > MAX_BODY_BYTES:
            return self.reply(413, {"error": f"a body of at most {MAX_BODY_BYTES} bytes is expected"})
        try:
            return self.reply(200, answer(self.rfile.read(int(length))))
        except (msgspec.MsgspecError, ValueError) as error:
            return self.reply(400, {"error": str(error)})
        except PaymentRefused as error:
            return self.reply(409, {"error": str(error)})
        except BillingBusy as error:
            return self.reply(503, {"error": str(error)})
        except SourceUnavailable as error:
            LOGGER.warning("request failed", extra=fields(path=self.path, cause=str(error)))
            return self.reply(503, {"error": "billing's database does not answer"})
        except Exception:
            LOGGER.exception("request failed", extra=fields(path=self.path))
            return self.reply(500, {"error": "internal error"})

    def _pay(self, body: bytes) -> object:
        return self.server.billing.pay(msgspec.json.decode(body, type=PaymentRequest))

    def _state(self, body: bytes) -> object:
        return self.server.billing.state(msgspec.json.decode(body, type=PaymentQuestion).registration_id)

    def _invoice(self, body: bytes) -> object:
        self.server.billing.invoice(msgspec.json.decode(body, type=InvoiceRequest).registration_id)
        return {"status": "issued"}


class BillingClient:
    """Calls billing.

    Args:
        folder: where billing leaves its address.
        timeout_seconds: after which a call counts as failed, whatever billing does with it.
    """

    def __init__(self, folder: Path, timeout_seconds: float = CLIENT_TIMEOUT_SECONDS) -> None:
        self._address = folder / _ADDRESS_FILE
        self._timeout_seconds = timeout_seconds

    def pay(self, request: PaymentRequest) -> PaymentState:
        """Ask for a payment, or how far it is.

        Raises:
            SourceUnavailable: no answer; calling again is safe.
            PaymentRefused: calling again is no use.
        """
        return msgspec.json.decode(self._post("/payments", request), type=PaymentState)

    def state(self, registration_id: str) -> PaymentState:
        """Ask how far a payment is.

        Raises:
            SourceUnavailable: no answer; calling again is safe.
            PaymentRefused: there is no such payment.
        """
        return msgspec.json.decode(self._post("/payments/state", PaymentQuestion(registration_id)), type=PaymentState)

    def invoice(self, registration_id: str) -> None:
        """Ask for the invoice.

        Raises:
            SourceUnavailable: no answer; calling again is safe.
            PaymentRefused: calling again is no use.
        """
        self._post("/invoices", InvoiceRequest(registration_id))

    def _post(self, path: str, message: msgspec.Struct) -> bytes:
        try:
            address = json.loads(self._address.read_text(encoding="utf-8"))
            connection = http.client.HTTPConnection(address["host"], address["port"], timeout=self._timeout_seconds)
            try:
                connection.request("POST", path, msgspec.json.encode(message), {"Content-Type": "application/json"})
                response = connection.getresponse()
                body = response.read(MAX_BODY_BYTES)
            finally:
                connection.close()
        except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
            raise SourceUnavailable(f"billing does not answer: {error or type(error).__name__}") from error
        if response.status == 200:
            return body
        text = body.decode(errors="replace")[:200]
        if 400 <= response.status < 500:
            raise PaymentRefused(f"billing refuses {path}: {response.status} {text}")
        raise SourceUnavailable(f"billing cannot do {path} now: {response.status} {text}")
