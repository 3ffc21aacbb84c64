"""Uploads of photographs, read piece by piece into a file, with a bound."""

import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import IO

from fastapi import HTTPException, Request
from starlette.datastructures import UploadFile
from starlette.types import Message, Receive

from featplug.serve.limits import Limits

_PIECE = 2**20
_OTHER_FIELDS = 2**16
"""Bytes that the fields of a form may take besides the photograph."""
_RAW = "image/", "application/octet-stream"


@dataclass
class Upload:
    """A photograph in a temporary file, and the fields that came with it."""

    path: Path
    fields: dict[str, str] = field(default_factory=dict)

    def check_fields(self, known: Sequence[str]) -> None:
        """Raise HTTPException, 422, if there is a field that has no effect."""
        unknown = [name for name in self.fields if name not in known]
        if unknown:
            raise HTTPException(
                422, f"There is no field {unknown[0][:80]!r}; there are {', '.join(known)}."
            )

    def words(self, name: str) -> list[str]:
        """Return the parts of a field, between commas; none if it is absent."""
        text = self.fields.get(name, "").strip()
        return text.split(",") if text else []

    def numbers(self, name: str, count: int) -> list[float]:
        """Return the numbers of a field; none if it is absent.

        Raises:
            HTTPException: 422, it has other contents, or not ``count`` of them.
        """
        words = self.words(name)
        try:
            numbers = [float(word) for word in words]
        except ValueError:
            numbers = []
        if words and (len(numbers) != count or not all(map(isfinite, numbers))):
            shown, plural = self.fields[name][:80], "s" if count > 1 else ""
            raise HTTPException(422, f"{name} must be {count} number{plural}, not {shown!r}.")
        return numbers

    def remove(self) -> None:
        """Delete the file."""
        with suppress(OSError):
            self.path.unlink()


async def read_upload(request: Request, limits: Limits) -> Upload:
    """Read the photograph of a request: its body, or the file ``image`` of a form.

    Fields are those of the address and of the form.

    Raises:
        HTTPException: 413, the upload is too large; 415, it is no photograph by its type; 422, the
            form has no file ``image``; 400, the form is damaged.
    """
    kind = request.headers.get("content-type", "").lower()
    is_form = kind.startswith("multipart/form-data")
    if not is_form and not kind.startswith(_RAW):
        raise HTTPException(
            415, "Send a photograph as the body, of type image/jpeg or the like, or as a form."
        )
    most = limits.max_upload_bytes + (_OTHER_FIELDS if is_form else 0)
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > most:
        raise _too_large(limits)
    bounded = Request(request.scope, _bounded(request.receive, most, limits))
    with tempfile.NamedTemporaryFile(prefix="featplug-", delete=False) as file:
        upload = Upload(Path(file.name), dict(request.query_params))
        try:
            if is_form:
                await _read_form(bounded, upload, file)
            else:
                async for piece in bounded.stream():
                    file.write(piece)
        except BaseException:  # also where the client goes away, or the time is over
            upload.remove()
            raise
    return upload


async def _read_form(request: Request, upload: Upload, file: IO[bytes]) -> None:
    async with request.form(max_files=1, max_fields=32, max_part_size=_OTHER_FIELDS) as form:
        image = form.get("image")
        if not isinstance(image, UploadFile):
            raise HTTPException(422, "The form has no file named image; add one.")
        upload.fields |= {key: value for key, value in form.items() if isinstance(value, str)}
        while piece := await image.read(_PIECE):
            file.write(piece)


def _bounded(receive: Receive, most: int, limits: Limits) -> Receive:
    """Return a function that receives up to a number of bytes."""
    num_bytes = 0

    async def receive_bounded() -> Message:
        nonlocal num_bytes
        message = await receive()
        num_bytes += len(message.get("body", b""))
        if num_bytes > most:
            raise _too_large(limits)
        return message

    return receive_bounded


def _too_large(limits: Limits) -> HTTPException:
    # The rest of the body is not read, so the connection cannot be used again.
    return HTTPException(
        413,
        f"The upload is larger than {limits.max_upload_mib:g} MiB; reduce the photograph.",
        {"Connection": "close"},
    )
