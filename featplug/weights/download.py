"""Downloads over HTTP that resume, checked and put in place by pooch."""

import hashlib
import logging
import re
from pathlib import Path
from typing import Any

import pooch
import requests
from requests.compat import urljoin
from tqdm import tqdm

from featplug.io.limits import as_megabytes
from featplug.utils.progress import is_quiet
from featplug.weights.checkpoints import is_web_page

CHUNK_BYTES = 1 << 16
TIMEOUT = (10, 30)
"""Seconds to wait for a connection, and between two chunks."""


class SecureSession(requests.Session):
    """A session that never leaves https for http, where anybody on the way can change a file."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return the address that an answer redirects to, None for one that does not.

        Raises:
            ValueError: it leads from https to something else.
        """
        target = super().get_redirect_target(resp)
        if target and resp.url.startswith("https:"):
            address = urljoin(resp.url, target)
            if not address.startswith("https:"):
                raise ValueError(f"the server redirects to {address}, which is not encrypted")
        return target


class ResumingDownloader:
    """A downloader for pooch that keeps what has arrived and asks for the rest next time.

    Bytes are kept next to the target, in a ``.part`` file named by the URL and by the server's ETag
    or Last-Modified and length, so that the halves of two versions of a file are never joined.
    """

    def __init__(self, max_bytes: int, progress: bool = False) -> None:
        self.max_bytes = max_bytes
        self.progress = progress

    def __call__(self, url: str, output_file: str, pooch: Any) -> None:
        """Download ``url`` to ``output_file``; pooch gives all three arguments by position.

        Raises:
            requests.RequestException: the server did not answer, or not to the end.
            ValueError: the server reported an error, or sent a web page, more than ``max_bytes``,
                or fewer or more bytes than announced.
            OSError: the file cannot be written.
        """
        with SecureSession() as session:
            session.headers["Accept-Encoding"] = "identity"
            response = self._get(session, url, start=0)
            length = self._length(response)
            version = response.headers.get("ETag") or response.headers.get("Last-Modified", "")
            key = hashlib.sha256(f"{url}\n{version}\n{length}".encode()).hexdigest()
            part = Path(output_file).with_name(f"{key[:16]}.part")
            start = part.stat().st_size if version and part.exists() else 0
            if 0 < start < length:
                response.close()
                response = self._get(session, url, start)
                if not _continues_at(response, start):
                    start = 0
                    if response.status_code != requests.codes.ok:
                        response.close()
                        response = self._get(session, url, start)
            elif start != length:
                start = 0
            with response:
                if start != length or not part.exists():
                    try:
                        self._receive(response, part, start, length)
                    except ValueError:  # what has arrived is not the beginning of the file
                        part.unlink()
                        raise
            if length >= 0 and part.stat().st_size != length:
                arrived = part.stat().st_size
                if arrived > length:
                    part.unlink()
                raise ValueError(f"{arrived} of {length} bytes arrived")
        part.replace(output_file)

    def _get(self, session: requests.Session, url: str, start: int) -> requests.Response:
        headers = {"Range": f"bytes={start}-"} if start else {}
        response = session.get(url, headers=headers, stream=True, timeout=TIMEOUT)
        if not response.ok:
            raise ValueError(f"the server answers {response.status_code} {response.reason}")
        return response

    def _length(self, response: requests.Response) -> int:
        """Return the number of bytes that the server announces, -1 if it does not."""
        text = response.headers.get("Content-Length", "")
        length = int(text) if re.fullmatch("[0-9]{1,18}", text) else -1
        if length > self.max_bytes:
            raise self._too_large(length)
        return length

    def _receive(self, response: requests.Response, part: Path, start: int, length: int) -> None:
        arrived = start
        with (
            part.open("ab" if start else "wb") as file,
            tqdm(
                total=length if length >= 0 else None,
                initial=start,
                unit="B",
                unit_scale=True,
                desc=Path(response.url).name,
                disable=not self.progress or is_quiet(),
            ) as bar,
        ):
            for chunk in response.iter_content(CHUNK_BYTES):
                if arrived == 0 and is_web_page(chunk):
                    raise ValueError(
                        "the server sends a web page and not the file; open the address in a "
                        "browser, and run `featplug weights import` on what it saves"
                    )
                arrived += len(chunk)
                if arrived > self.max_bytes:
                    raise self._too_large(arrived)
                file.write(chunk)
                bar.update(len(chunk))

    def _too_large(self, num_bytes: int) -> ValueError:
        return ValueError(
            f"the server sends {as_megabytes(num_bytes)} or more, but the file has at most "
            f"{as_megabytes(self.max_bytes)}"
        )


def _continues_at(response: requests.Response, start: int) -> bool:
    """Return whether an answer is the rest of a file from byte ``start`` on."""
    is_part = response.status_code == requests.codes.partial_content
    return is_part and response.headers.get("Content-Range", "").startswith(f"bytes {start}-")


def download(
    url: str, target: Path, max_bytes: int, sha256: str | None = None, progress: bool = False
) -> Path:
    """Download one file, or resume its download, and return ``target``.

    Args:
        url: an ``http`` or ``https`` address.
        target: the file to write; it appears only when it is whole and its hash is right.
        max_bytes: largest size of the file.
        sha256: the hash it must have, where known.
        progress: show a bar with rate and time left.

    Raises:
        ValueError: the server failed or did not answer, the file is not the right one, or cannot be
            written.
    """
    pooch.get_logger().setLevel(logging.WARNING)  # it would print where it downloads to
    try:
        pooch.retrieve(
            url,
            known_hash=sha256,
            fname=target.name,
            path=target.parent,
            downloader=ResumingDownloader(max_bytes, progress),
        )
    except requests.RequestException as error:
        reason = type(error).__name__
        raise ValueError(f"{url} did not answer, or not to the end ({reason}).") from error
    except OSError as error:
        raise ValueError(
            f"{target.parent} cannot hold the download ({error.strerror or error}); free some "
            "space there, or use another folder."
        ) from error
    except ValueError as error:
        raise ValueError(f"{url}: {str(error).split('. ')[0].rstrip('.')}.") from error
    return target
