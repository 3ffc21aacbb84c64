"""The folder of a site, in which nothing but the site's own files is replaced or removed."""

import json
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from featplug.io.files import write_whole
from featplug.io.names import checked_name
from featplug.io.typed_json import as_type, read_json

MANIFEST = "site.json"
"""List of the files of a site, by which its folder is known."""
_MADE_BY = "featplug bench site"


def check_folder(folder: Path) -> list[str]:
    """Return the files of the site in a folder, which may be missing or empty.

    Raises:
        ValueError: the folder has anything else.
    """
    folder = Path(folder)
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return []
    if not (folder / MANIFEST).is_file():
        raise ValueError(
            f"{folder} is neither empty nor a site of `{_MADE_BY}` (it has no {MANIFEST}); choose "
            "another --output."
        )
    record = read_json(folder / MANIFEST)
    if record.get("made_by") != _MADE_BY:
        raise ValueError(f"{folder / MANIFEST} is of another program; choose another --output.")
    names = as_type(record.get("files"), list[str], folder / MANIFEST, "files")
    return [checked_name(name, str(folder / MANIFEST)) for name in names]


def write_site(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write the files of a site, and remove those of an earlier one that it does not have.

    A run that is killed leaves a folder that the next one completes.

    Args:
        folder: a folder that is new, empty, or has a site.
        files: path in the folder, with ``/``, to its contents.

    Raises:
        ValueError: see :func:`check_folder`; or a file of somebody else is in the way, or a link
            leads out of the folder.
    """
    folder = Path(folder)
    before = check_folder(folder)
    for name in (*files, *before):
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ValueError(
                f"{path} leads out of {folder} by a link; remove the link, or choose another "
                "--output."
            )
        if os.path.lexists(path) and name not in before:
            raise ValueError(
                f"{path} is not of this site and would be replaced; move it elsewhere."
            )
    _write_manifest(folder, {*files, *before})
    for name, contents in files.items():
        write_whole(folder / name, partial(_write, contents=contents))
    for name in set(before) - set(files):
        (folder / name).unlink(missing_ok=True)
        _remove_empty((folder / name).parent, folder)
    _write_manifest(folder, set(files))


def _write(path: Path, contents: bytes) -> None:
    path.write_bytes(contents)


def _write_manifest(folder: Path, names: set[str]) -> None:
    text = json.dumps({"made_by": _MADE_BY, "files": sorted(names)}, indent=1) + "\n"
    write_whole(folder / MANIFEST, lambda part: part.write_text(text, "utf-8"))


def _remove_empty(path: Path, folder: Path) -> None:
    while path != folder and path.is_dir() and not any(path.iterdir()):
        path.rmdir()
        path = path.parent
