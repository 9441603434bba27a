"""The page's server. It listens on this machine only, under a random path, and answers its own page only.

A browser lets the page of another site send requests here. The server refuses them: their Host, Origin or path is not
the server's. No request names a file. Not for: the content of the page (`page_content`).
"""

import hmac
import json
import secrets
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch
from torch import Tensor

from ..errors import DataError, VAEError
from ..evaluation.model_with_data import ModelWithData
from ..model.exportable import Decoding, Encoding
from .page import assembled
from .page_content import PageContent, drawer

HOST = "127.0.0.1"
REQUEST_LIMIT = 64 << 20  # bytes of a request
REQUEST_ROWS = 4096  # rows of a request
HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}

Request = dict[str, Any]


class Answers:
    """Answers to the requests of the page. Each method maps a request to a tensor; one runs at a time.

    Arguments:
        subject: The model and its data.
        event_shape: Shape of one x.
    """

    def __init__(self, subject: ModelWithData, event_shape: list[int]) -> None:
        self.subject = subject
        self.event_shape = event_shape
        self.draw = drawer(subject)
        self.lock = threading.Lock()
        self.by_name: dict[str, Callable[[Request], Tensor]] = {
            "decode": self.decode,
            "encode": self.encode,
            "sample": self.sample,
        }

    @torch.no_grad()
    def __call__(self, name: str, request: Request) -> bytes:
        """Answer as little-endian float32.

        Raises:
            VAEError: The request does not fit the model.
        """
        with self.lock:
            answer = self.by_name[name](request)
        return answer.detach().cpu().contiguous().float().numpy().astype("<f4").tobytes()

    def decode(self, request: Request) -> Tensor:
        """Latents (N, Z) → images (N, *event)."""
        model = self.subject.model
        z = self._rows(request, "z", [model.latent_size]).to(model.device)
        return Decoding(model)(z, model.context(self._context(request), len(z)))

    def encode(self, request: Request) -> Tensor:
        """Images (N, *event) → latents, rates and distortions, (N, Z + 2); NaN for the last two without a density."""
        model = self.subject.model
        x = model.checked(self._rows(request, "x", self.event_shape))
        c = model.context(self._context(request), len(x))
        try:
            parts = Encoding(model)(x, c)
        except NotImplementedError:
            nothing = torch.full((len(x),), float("nan"))
            parts = (*Encoding(model, with_terms=False)(x, c), nothing, nothing)
        return torch.cat([part.reshape(len(x), -1).cpu() for part in parts], 1)

    def sample(self, request: Request) -> Tensor:
        """A draw from the prior, (Z,)."""
        return self.draw(1, self._context(request) or 0)

    def _context(self, request: Request) -> int | None:
        label, size = request.get("c"), self.subject.model.context_size
        if not size:
            return None
        if type(label) is not int or not 0 <= label < size:
            raise DataError(f"c must be a class from 0 to {size - 1}, got {label!r:.50}")
        return label

    def _rows(self, request: Request, name: str, shape: list[int]) -> Tensor:
        try:
            rows = torch.tensor(request.get(name), dtype=torch.float32).reshape(-1, *shape)
        except (TypeError, ValueError, RuntimeError, OverflowError):
            raise DataError(f"{name} must be rows of shape {shape}") from None
        if not 1 <= len(rows) <= REQUEST_ROWS or not bool(rows.isfinite().all()):
            raise DataError(f"{name} must have 1 to {REQUEST_ROWS} finite rows")
        return rows


class Server:
    """A server of one page, running from construction to `close`.

    Arguments:
        subject: The model and its data.
        content: Content of the page.
        port: Port to listen on; 0 for any free one.

    Attributes:
        address: The page's address.

    Raises:
        OSError: The port is taken.
    """

    def __init__(self, subject: ModelWithData, content: PageContent, *, port: int = 0) -> None:
        self.path = f"/{secrets.token_urlsafe(16)}/"
        self.answers = Answers(subject, content["shape"])
        self.http = _HTTP((HOST, port), self.path, assembled(content).encode(), self.answers)
        self.address = f"http://{HOST}:{self.http.server_port}{self.path}"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        self.thread.start()

    def wait(self) -> None:
        """Serve until Ctrl-C."""
        while self.thread.is_alive():
            self.thread.join(0.5)

    def close(self) -> None:
        """Stop serving, and free the port."""
        self.http.shutdown()
        self.http.server_close()


class _HTTP(ThreadingHTTPServer):
    """The socket, with the page and the answers for its handlers.

    Arguments:
        address: Host and port.
        path: The random path.
        page: The page.
        answers: Answers to the requests of the page.
    """

    daemon_threads = True
    allow_reuse_address = False  # two servers on one port would share its requests

    def __init__(self, address: tuple[str, int], path: str, page: bytes, answers: Answers) -> None:
        super().__init__(address, _Handler)
        self.path = path
        self.page = page
        self.answers = answers
        self.origins = {f"http://{name}:{self.server_port}" for name in (HOST, "localhost")}


class _Handler(BaseHTTPRequestHandler):
    """Answers the requests of one connection."""

    server: _HTTP
    protocol_version = "HTTP/1.1"
    server_version = "vae"
    sys_version = ""
    timeout = 600
    wbufsize = 1 << 16  # one send for an answer: with two, the second waits 40 ms for the first's receipt
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Send the page."""
        if not self._welcome():
            return
        if self._name():
            self._refuse(HTTPStatus.NOT_FOUND)
            return
        self._send(HTTPStatus.OK, self.server.page, "text/html; charset=utf-8")

    def do_POST(self) -> None:
        """Answer a request of the page."""
        if not self._welcome(post=True):
            return
        name = self._name()
        if name not in self.server.answers.by_name:
            self._refuse(HTTPStatus.NOT_FOUND)
            return
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > REQUEST_LIMIT:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return
        try:
            request = json.loads(self.rfile.read(int(length)))
            if not isinstance(request, dict):
                raise DataError("a request must be a JSON object")
            content = self.server.answers(name, request)
        except (ValueError, RecursionError, VAEError) as error:
            self._send(HTTPStatus.BAD_REQUEST, str(error).encode("utf-8", "replace"), "text/plain; charset=utf-8")
            return
        self._send(HTTPStatus.OK, content, "application/octet-stream")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Log nothing: a person reads the terminal."""

    def _welcome(self, *, post: bool = False) -> bool:
        """Whether the request comes from our own page; refuse it otherwise."""
        host = f"http://{self.headers.get('Host', '')}"
        origin = self.headers.get("Origin")
        strange = host not in self.server.origins or (origin != host if post else origin not in (None, host))
        if strange or self.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            self._refuse(HTTPStatus.FORBIDDEN)
            return False
        if post and self.headers.get("Content-Type") != "application/json":
            self._refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
            return False
        address = self.server.path
        if not hmac.compare_digest(self.path[: len(address)].encode(), address.encode()):
            self._refuse(HTTPStatus.NOT_FOUND)
            return False
        return True

    def _name(self) -> str:
        """The name of the request: "" for the page."""
        return self.path.removeprefix(self.server.path)

    def _refuse(self, status: HTTPStatus) -> None:
        self.close_connection = True  # the rest of the body is not read
        self._send(status, status.phrase.encode(), "text/plain; charset=utf-8")

    def _send(self, status: HTTPStatus, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        for name, value in HEADERS.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()
