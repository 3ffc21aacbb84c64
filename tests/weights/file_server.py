"""An HTTP server on this machine that can resume, refuse, stop half-way, or know no ranges."""

from __future__ import annotations

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer:
    """Serves bytes by path; use as a context manager.

    Args:
        files: contents by path; any other path is answered with 404.
        ranges: answer Range requests with 206.
        etag: version of the files.
        stop_after: send that many bytes of each answer and close the connection.
        headers: further headers, or other values, of all answers; None leaves one out.
        redirects: addresses to redirect paths to.
    """

    def __init__(
        self,
        files: dict[str, bytes],
        ranges: bool = True,
        etag: str | None = '"1"',
        stop_after: int | None = None,
        headers: dict[str, str | None] | None = None,
        redirects: dict[str, str] | None = None,
    ) -> None:
        self.files = files
        self.headers = headers or {}
        self.redirects = redirects or {}
        self.ranges = ranges
        self.etag = etag
        self.stop_after = stop_after
        self.answers: list[tuple[int, int]] = []
        """Status and number of body bytes sent, one per request."""
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server._answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._http.server_port}{path}"

    def __enter__(self) -> FileServer:
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        if request.path in self.redirects:
            request.send_response(302)
            request.send_header("Location", self.redirects[request.path])
            request.end_headers()
            return
        body = self.files.get(request.path)
        if body is None:
            self.answers.append((404, 0))
            request.send_error(404)
            return
        wanted = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        start = int(wanted[1]) if wanted and self.ranges else 0
        request.send_response(206 if start else 200)
        headers = {
            "Content-Length": str(len(body) - start),
            "ETag": self.etag,
            "Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}" if start else None,
            **self.headers,
        }
        for name, value in headers.items():
            if value is not None:
                request.send_header(name, value)
        sent = body[start:][: self.stop_after]
        # Before anything is sent, so that a client that has its answer finds it counted.
        self.answers.append((206 if start else 200, len(sent)))
        try:
            request.end_headers()
            request.wfile.write(sent)
        except (BrokenPipeError, ConnectionResetError):
            return  # the client looks at the head alone before it asks for the rest
