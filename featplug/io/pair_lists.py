"""Image lists, and pair lists in hloc's form: one pair a line, two names separated by a space.

Names are in their normal form, see :mod:`featplug.io.names`; lines that start with ``#`` are
comments.
"""

import logging
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from featplug.io.files import write_whole_text
from featplug.io.names import checked_name, enumerated
from featplug.io.text_files import iterate_lines, matching_files, numbers, read_lines

logger = logging.getLogger(__name__)

Pair = tuple[str, str]

_NUM_CAMERA_NUMBERS = 5
"""Fewest numbers of a camera in a query list: width, height, focal length and principal point."""
_NUM_POSE_NUMBERS = 7
"""Numbers of a pose in a pose file: quaternion and translation."""
_MAX_BYTES = 2**33
"""Largest pair list, of about 200 million pairs."""


def unique_pairs(pairs: Iterable[Pair]) -> list[Pair]:
    """Drop repetitions, in either order, and pairs of an image with itself; keep the order."""
    seen: set[Pair] = set()
    unique = []
    for pair in pairs:
        key = min(pair, pair[::-1])
        if pair[0] != pair[1] and key not in seen:
            seen.add(key)
            unique.append(pair)
    return unique


def read_image_list(path: Path, report_repeated: bool = False) -> list[str]:
    """Read image names from a text file, a name a line; each name is returned once.

    A camera may follow a name, as in query lists, or a pose, as in pose files.
    A pattern in the file name (``queries/*_time_queries.txt``) reads all files that fit it.

    Args:
        path: the file or pattern.
        report_repeated: log the names that are listed several times.

    Raises:
        FileNotFoundError: no file fits.
        ValueError: a file is not text, has a name that cannot be used, or the files name no image.
    """
    names = [
        _listed_name(line, f"{file}, line {number}")
        for file in matching_files(path, "image list")
        for number, line in read_lines(file, "image list")
    ]
    if not names:
        raise ValueError(f"The image list {path} names no image.")
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated and report_repeated:
        logger.warning("%s: listed several times, used once: %s", path, enumerated(repeated))
    return list(dict.fromkeys(names))


def _listed_name(line: str, where: str) -> str:
    name, *others = line.split()
    has_camera = bool(others and re.fullmatch("[A-Z_]+", others[0]))
    try:
        num = len(numbers(others[1:] if has_camera else others, where))
        if num < _NUM_CAMERA_NUMBERS if has_camera else num not in (0, _NUM_POSE_NUMBERS):
            raise ValueError("neither a camera nor a pose")
    except ValueError:
        raise ValueError(
            f"{where}: expected an image name, which has no white space, got {line[:100]!r}; "
            "correct the line, or rename the image."
        ) from None
    return checked_name(name, where)


def read_pairs(path: Path, with_itself: bool = False) -> list[Pair]:
    """Read a pair list.

    Args:
        path: the pair list.
        with_itself: keep pairs of an image with itself, which are of two files of features.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not text, a line is not two image names, or no pair is left.
    """
    forms = _NormalForms()
    pairs = []
    for number, line in iterate_lines(path, "pair list", _MAX_BYTES):
        words = line.split()
        try:
            name0, name1 = words
            pairs.append((forms[name0], forms[name1]))
        except ValueError:  # costs nothing in good lines, of which there may be millions
            if words and not words[0].startswith("#"):
                raise _line_error(f"{path}, line {number}", words) from None
    if not pairs:
        raise ValueError(f"The pair list {path} is empty.")
    different = pairs if with_itself else [pair for pair in pairs if pair[0] != pair[1]]
    if not different:
        raise ValueError(f"{path} has only pairs of an image with itself; pair different images.")
    if dropped := len(pairs) - len(different):
        logger.warning("%s: left out pairs of an image with itself: %d", path, dropped)
    return different


class _NormalForms(dict[str, str]):
    """Normal forms of names; each name is checked once."""

    def __missing__(self, name: str) -> str:
        form = self[name] = checked_name(name)
        return form


def _line_error(where: str, words: list[str]) -> ValueError:
    """Return the error for a line that is not two image names."""
    try:
        for word in words:
            checked_name(word, where)
    except ValueError as error:
        return error
    return ValueError(
        f"{where}: expected two image names with a space between them, got {len(words)}: "
        f"{' '.join(words)[:100]!r}; correct the line."
    )


def write_pairs(path: Path, pairs: Iterable[Pair]) -> None:
    """Write a pair list.

    Raises:
        ValueError: a name cannot stand in one.
    """
    forms = _NormalForms()
    lines = [f"{forms[name0]} {forms[name1]}\n" for name0, name1 in pairs]
    write_whole_text(Path(path), "".join(lines))
