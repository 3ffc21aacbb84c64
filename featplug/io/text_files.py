"""Text files of people and other tools: pair lists, query lists, poses, cameras, configurations.

UTF-8 with or without a byte-order mark, or UTF-16 with one; lines end with LF, CR LF or CR.
Anything else is rejected with one sentence that names file, line and remedy.
"""

import codecs
import io
import math
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

MAX_BYTES = 2**28
"""Largest text file that is read as a whole."""
MAX_MAGNITUDE = 1e30
"""Largest magnitude of a number with which calculations do not overflow."""
MAX_LINE_LENGTH = 2**24
"""Longest line, in characters."""
QUATERNION_TOLERANCE = 0.1
"""Largest deviation from 1 of a quaternion's norm: some tools write few digits."""

_CHUNK_BYTES = 2**20
_CONTROL = bytes({*range(32), 127} - set(b"\t\n\r"))
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_SAVE = "save it as plain text in UTF-8"


def read_text(path: Path, what: str = "text file", max_bytes: int = MAX_BYTES) -> str:
    """Read a text file, whose lines then end with LF.

    Args:
        path: the file.
        what: what the file is, for messages, such as ``pair list``.
        max_bytes: largest size of the file.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it is a folder or a device, too large, or not text.
    """
    return "".join(_read_chunks(Path(path), what, max_bytes))


def read_lines(
    path: Path, what: str = "text file", max_bytes: int = MAX_BYTES
) -> list[tuple[int, str]]:
    """Read the stripped lines of a text file with their numbers, without empty ones and comments.

    A comment is a line that starts with ``#``. Arguments and errors are those of :func:`read_text`.
    """
    stripped = ((at, line.strip()) for at, line in iterate_lines(path, what, max_bytes))
    return [(at, line) for at, line in stripped if line and not line.startswith("#")]


def iterate_lines(
    path: Path, what: str = "text file", max_bytes: int | None = None
) -> Iterator[tuple[int, str]]:
    """Yield the number and text of every line of a text file, which may be larger than memory.

    Arguments and errors are those of :func:`read_text`; without a limit of the size by default.
    """
    first, rest = 1, ""
    for chunk in _read_chunks(Path(path), what, max_bytes):
        *lines, rest = (rest + chunk).split("\n")
        yield from enumerate(lines, first)
        first += len(lines)
        if len(rest) > MAX_LINE_LENGTH:
            raise ValueError(f"{path}, line {first}: the line has no end; is it a {what}?")
    yield first, rest


def matching_files(path: Path, what: str) -> list[Path]:
    """Return a file, or all that a pattern in its name fits; raise FileNotFoundError if none do."""
    path = Path(path)
    files = [path] if path.exists() else sorted(path.parent.glob(path.name))
    if not files:
        raise FileNotFoundError(f"There is no {what} {path}.")
    return files


def number(
    word: str,
    where: str,
    what: str = "a number",
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    finite: bool = True,
) -> float:
    """Return the number that a word of a text file is.

    Args:
        word: the word.
        where: where it stands, such as ``cameras.txt, line 3``.
        what: what the number is, such as ``a focal length``.
        minimum: least allowed number.
        maximum: largest allowed number.
        finite: reject infinity, NaN and numbers of 1e30 and above.

    Raises:
        ValueError: the word is not such a number.
    """
    try:
        value = float(word)
        if "_" in word or not word.isascii():
            raise ValueError
    except ValueError:
        raise ValueError(f"{where}: expected {what}, got {_shown(word)}; correct it.") from None
    if finite and not abs(value) < MAX_MAGNITUDE:
        raise ValueError(
            f"{where}: expected {what} that is finite and below {MAX_MAGNITUDE:g}, got {word}; "
            "correct it."
        )
    if (minimum is not None and value < minimum) or (maximum is not None and value > maximum):
        limits = (("at least", minimum), ("at most", maximum))
        expected = " and ".join(
            f"{words} {limit:g}" for words, limit in limits if limit is not None
        )
        raise ValueError(f"{where}: expected {what} of {expected}, got {word}; correct it.")
    return value


def whole_number(
    word: str,
    where: str,
    what: str = "a whole number",
    minimum: int | None = None,
    maximum: int | None = None,
) -> int:
    """Return the whole number that a word of a text file is; see :func:`number`."""
    digits = word.removeprefix("-").removeprefix("+")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 18):
        raise ValueError(f"{where}: expected {what}, got {_shown(word)}; correct it.")
    number(word, where, what, minimum=minimum, maximum=maximum)
    return int(word)


def numbers(
    words: Sequence[str], where: str, what: str = "numbers", *, count: int | None = None
) -> list[float]:
    """Return the finite numbers that the words of a line are, ``count`` of them.

    Raises:
        ValueError: there are more or fewer words, or one is not a finite number.
    """
    if count is not None and len(words) != count:
        raise ValueError(
            f"{where}: expected {count} {what}, got {len(words)}: {_shown(' '.join(words))}; "
            "correct the line."
        )
    return [number(word, where) for word in words]


def check_quaternion(values: Sequence[float], where: str) -> None:
    """Check that the quaternion of a rotation has the norm 1, but for rounding.

    Raises:
        ValueError: it has not; the message begins with ``where``.
    """
    norm = math.hypot(*values)
    if not abs(norm - 1) < QUATERNION_TOLERANCE:
        raise ValueError(
            f"{where}: expected a quaternion of norm 1, got one of norm {norm:.3g}; correct it."
        )


def _read_chunks(path: Path, what: str, max_bytes: int | None) -> Iterator[str]:
    """Yield the text of a file in parts, with LF at the ends of lines."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # reading a named pipe may wait for ever
            kind = "folder" if stat.S_ISDIR(status.st_mode) else "pipe or device"
            raise ValueError(f"{path} is a {kind}, not a {what}; use a regular file.")
        file = path.open("rb")
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no {what} {path}.") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}).") from error
    if max_bytes is not None and status.st_size > max_bytes:
        raise ValueError(
            f"{path} has {status.st_size / 2**20:.0f} MiB; a {what} has at most "
            f"{max_bytes / 2**20:.0f} MiB, is it another file?"
        )
    with file:
        data = file.read(_CHUNK_BYTES)
        encoding = "utf-16" if data.startswith(_UTF16_MARKS) else "utf-8-sig"
        decoder = io.IncrementalNewlineDecoder(
            codecs.getincrementaldecoder(encoding)("strict"), translate=True
        )
        line, starts_line = 1, True
        while True:
            try:
                chunk = decoder.decode(data, final=not data)
            except UnicodeDecodeError as error:
                valid = error.object[: error.start].decode(encoding, "ignore")
                raise ValueError(
                    f"{path}, line {line + valid.count(chr(10))}: not a {what} in UTF-8 "
                    f"({error.reason}); {_SAVE}."
                ) from None
            _check_characters(chunk, path, line, what)
            # A byte-order mark starts every file that was appended to another one.
            text = chunk.replace("\n\ufeff", "\n")
            yield text.removeprefix("\ufeff") if starts_line else text
            if not data:
                return
            line += chunk.count("\n")
            starts_line = chunk.endswith("\n") if chunk else starts_line
            data = file.read(_CHUNK_BYTES)


def _check_characters(chunk: str, path: Path, line: int, what: str) -> None:
    """Reject control characters, of which NUL ends names in HDF5 and in C."""
    # A surrogate can come from UTF-16 alone, and is caught by the decoder.
    encoded = chunk.encode("utf-8")
    if len(encoded.translate(None, _CONTROL)) == len(encoded):
        return
    first = min(position for c in _CONTROL if (position := encoded.find(c)) >= 0)
    line += encoded[:first].count(b"\n")
    hint = " (is it UTF-16, or a binary file?)" if encoded[first] == 0 else ""
    raise ValueError(
        f"{path}, line {line}: has the control character {chr(encoded[first])!r}{hint}, which a "
        f"{what} cannot have; {_SAVE}."
    )


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
