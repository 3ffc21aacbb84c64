"""Image names: the one check, the one normal form, and the paths that names become.

A name is a path below the image folder with ``/`` between its parts. It has to stand in pair lists
and COLMAP's text files, in HDF5 (which cuts at NUL) and as a file name on every system. The bytes
of the file system count: ``é`` as one character and as ``e`` with an accent are two names.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

MAX_PART_BYTES = 255
"""Longest name of a file or folder in most file systems, in bytes of UTF-8."""
MAX_NAME_BYTES = 1024
"""Longest image name, in bytes of UTF-8."""

_DRIVE = re.compile(r"[A-Za-z]:")
_BYTE_ORDER_MARK = "\ufeff"


def checked_name(name: str, where: str = "") -> str:
    """Return the normal form of an image name: ``./a//b.jpg`` becomes ``a/b.jpg``.

    Args:
        name: the name.
        where: where it stands, for messages, such as ``pairs.txt, line 3``.

    Raises:
        ValueError: it is no path below the image folder, or files cannot carry it; the message says
            how to rename it.
    """
    if _is_plain(name):
        return name
    if problem := _problem(name):
        start = f"{where}: the" if where else "The"
        raise ValueError(f"{start} image name {_shown(name)} {problem}")
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def usable_part(part: str) -> str:
    """Return the name of a file or folder with ``_`` for what :func:`checked_name` rejects."""
    part = "_".join(part.split())
    part = re.sub(r"[\\\ud800-\udfff" + _BYTE_ORDER_MARK + "]", "_", part)
    part = "".join("_" if unicodedata.category(letter) == "Cc" else letter for letter in part)
    hidden = part.startswith(".")  # what only its white space kept from it
    return re.sub(r"^#|(?<=^[A-Za-z]):", "_", f"_{part}" if hidden else part)


def normal_name(name: str, where: str = "") -> str:
    """Return the normal form of another tool's image name, or the name itself if it has none.

    For names that are compared with others. One that becomes a path or stands in a list has to
    pass :func:`checked_name`.

    Raises:
        ValueError: it is empty, or has a control character.
    """
    try:
        return checked_name(name, where)
    except ValueError:
        if not name or _has_control_character(name):
            raise
        return name


def _is_plain(name: str) -> bool:
    """Return whether a name has nothing that needs a closer look; lists have millions of names."""
    return (
        len(name) <= (MAX_PART_BYTES if name.isascii() else MAX_PART_BYTES // 4)
        and name.isprintable()
        and not (" " in name or "\\" in name or ":" in name or "//" in name or "/." in name)
        and name[:1] not in ("", ".", "/", "#")
        and name[-1] != "/"
    )


def _has_control_character(name: str) -> bool:
    return any(unicodedata.category(letter) == "Cc" for letter in name) or _BYTE_ORDER_MARK in name


def _problem(name: str) -> str | None:
    """Return what is wrong with a name and what to do, or None."""
    if _has_control_character(name):
        return "has a control character; write the file that it comes from again, or rename it."
    if any(letter.isspace() for letter in name):
        return (
            "has white space, which pair lists and COLMAP's text files cannot carry; rename it, "
            f"e.g. to {'_'.join(name.split())!r}."
        )
    try:
        size = len(name.encode("utf-8"))
    except UnicodeEncodeError:
        return "is not UTF-8; rename it."
    if "\\" in name:
        return "has a backslash; write '/' between folders, or rename it."
    parts = name.split("/")
    if name.startswith("/") or _DRIVE.match(name) or ".." in parts or parts[-1] in ("", "."):
        return (
            "must be a plain path below the image folder, without '..', a drive, or '/' at its "
            "start or end."
        )
    if next(part for part in parts if part not in ("", ".")).startswith("#"):
        return "starts with '#', a comment in image and pair lists; rename it."
    if size > MAX_NAME_BYTES or max(len(part.encode("utf-8")) for part in parts) > MAX_PART_BYTES:
        return (
            f"is too long: {size} bytes, of {MAX_NAME_BYTES} and {MAX_PART_BYTES} for each file or "
            "folder; rename it."
        )
    return None


def _shown(name: str) -> str:
    return repr(name if len(name) <= 100 else f"{name[:97]}...")


def enumerated(names: Sequence[str], limit: int = 10) -> str:
    """Return names in words: the first ones, and the number of the others."""
    more = [f"and {len(names) - limit} more"] if len(names) > limit else []
    return ", ".join([*names[:limit], *more])


def natural_key(name: str) -> tuple[tuple[str, int, str], ...]:
    """Return a key by which ``frame2`` comes before ``frame10``, and equal numbers by their zeros.

    Each element is text without digits, the number that follows, and its digits.
    """
    parts = re.findall(r"([^0-9]*)([0-9]*)", name)
    return tuple((text, int(digits or -1), digits) for text, digits in parts)


def check_names_distinct(names: Iterable[str]) -> None:
    """Check that a match file can distinguish image names.

    Raises:
        ValueError: two names differ only by '/' against '-'.
    """
    seen: dict[str, str] = {}
    for name in dict.fromkeys(names):
        other = seen.setdefault(name.replace("/", "-"), name)
        if other != name:
            raise ValueError(
                f"The image names {other!r} and {name!r} have the same name in hloc's match "
                "files, which write '/' as '-'; rename one of them."
            )


def path_below(folder: Path, name: str, suffix: str = "") -> Path:
    """Return the path of a file below a folder, for an image name and a suffix added to it.

    Raises:
        ValueError: the name cannot be used, or a symbolic link leads out of the folder.
    """
    path = Path(folder) / f"{checked_name(name)}{suffix}"
    if not path.resolve().is_relative_to(Path(folder).resolve()):
        raise ValueError(
            f"{path} leads out of {folder} by a symbolic link; remove the link, or choose another "
            "folder."
        )
    if len(path.name.encode("utf-8")) > MAX_PART_BYTES:
        raise ValueError(f"The file name {_shown(path.name)} is too long; rename the image.")
    return path


def similar_name_hints(missing: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """Return a hint at a known name for each missing one that looks the same or differs by case."""
    similar = {_folded(name): name for name in known}
    return {
        name: _hint(name, similar[_folded(name)]) for name in missing if _folded(name) in similar
    }


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _hint(name: str, similar: str) -> str:
    if unicodedata.normalize("NFC", similar) == unicodedata.normalize("NFC", name):
        return (
            f" {similar!r} looks the same but has other Unicode characters ({similar!a}, not "
            f"{name!a}); write the list from the names of the files."
        )
    return f" Did you mean {similar!r}? Letter case counts."
