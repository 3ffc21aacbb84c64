"""Downloads over HTTP that resume, checked and put in place by pooch."""

import hashlib
import logging
from pathlib import Path
from typing import Any

import pooch
import requests
from tqdm import tqdm

from featplug.utils.progress import is_quiet

CHUNK_BYTES = 1 << 16
TIMEOUT = 30
"""Seconds to wait for a connection, and between two chunks."""


class ResumingDownloader:
    """A downloader for pooch that keeps what has arrived and asks for the rest next time.

    Bytes are kept next to the target, in a ``.part`` file named by the URL and by the server's ETag
    or Last-Modified and length, so that the halves of two versions of a file are never joined.
    """

    def __init__(self, progress: bool = False) -> None:
        self.progress = progress

    def __call__(self, url: str, output_file: str, pooch: Any) -> None:
        """Download ``url`` to ``output_file``; pooch gives all three arguments by position.

        Raises:
            requests.RequestException: the server did not answer, or not to the end.
            ValueError: the server reported an error, or sent fewer or more bytes than announced.
        """
        with requests.Session() as session:
            session.headers["Accept-Encoding"] = "identity"
            response = self._get(session, url, start=0)
            length = int(response.headers.get("Content-Length", -1))
            version = response.headers.get("ETag") or response.headers.get("Last-Modified", "")
            key = hashlib.sha256(f"{url}\n{version}\n{length}".encode()).hexdigest()
            part = Path(output_file).with_name(f"{key[:16]}.part")
            start = part.stat().st_size if version and part.exists() else 0
            if 0 < start < length:
                response.close()
                response = self._get(session, url, start)
                if response.status_code != requests.codes.partial_content:
                    start = 0
            elif start != length:
                start = 0
            with response:
                if start != length or not part.exists():
                    self._receive(response, part, start, length)
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

    def _receive(self, response: requests.Response, part: Path, start: int, length: int) -> None:
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
                file.write(chunk)
                bar.update(len(chunk))


def download(url: str, target: Path, sha256: str | None = None, progress: bool = False) -> Path:
    """Download one file, or resume its download, and return ``target``.

    Args:
        url: an ``http`` or ``https`` address.
        target: the file to write; it appears only when it is whole and its hash is right.
        sha256: the hash it must have, where known.
        progress: show a bar with rate and time left.

    Raises:
        ValueError: the server failed or did not answer, or the file has another hash.
    """
    pooch.get_logger().setLevel(logging.WARNING)  # it would print where it downloads to
    try:
        pooch.retrieve(
            url,
            known_hash=sha256,
            fname=target.name,
            path=target.parent,
            downloader=ResumingDownloader(progress),
        )
    except requests.RequestException as error:
        reason = type(error).__name__
        raise ValueError(f"{url} did not answer, or not to the end ({reason}).") from error
    except ValueError as error:
        raise ValueError(f"{url}: {str(error).split('. ')[0].rstrip('.')}.") from error
    return target
