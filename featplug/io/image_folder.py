"""Folders of photographs: which files are photographs, and names that files can carry."""

import logging
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath
from shlex import quote

from featplug.io.image_files import IMAGE_SUFFIXES, OTHER_SUFFIXES
from featplug.io.names import checked_name, enumerated, usable_part
from featplug.io.run_folder import RECORD

logger = logging.getLogger(__name__)

_SIDE_FOLDERS = {"mask", "masks", "thumbnails", "thumbs", "@eadir", "__macosx"}
"""Folders of masks and of thumbnails, in small letters."""
_SIDE_FILE = re.compile(r"(.+)[._-](mask|thumb|thumbnail)", re.IGNORECASE)
"""Name without suffix of a mask or thumbnail of the image of the first group."""


@dataclass(frozen=True)
class _Found:
    """Files of a folder."""

    names: list[str] = field(default_factory=list)
    """Photographs."""
    side: list[str] = field(default_factory=list)
    """Masks and thumbnails."""
    unread: list[str] = field(default_factory=list)
    """Photographs of formats that are not read."""


def list_images(image_dir: Path, masks: Path | None = None) -> list[str]:
    """List the photographs below a folder, at any depth, sorted.

    Hidden files and folders and the output folders of runs are passed over, and, with a line in the
    log, masks and thumbnails (folders of these names, ``x.jpg.png`` and ``x_mask.png`` next to
    ``x.jpg``) and photographs of formats that are not read.

    Args:
        image_dir: the folder.
        masks: folder of masks, which may be inside.

    Returns:
        Names relative to ``image_dir``, with ``/`` between folders.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it holds no photograph, or names that cannot be used.
    """
    image_dir = Path(image_dir)
    if not image_dir.is_dir():
        if image_dir.is_file():
            raise ValueError(f"{image_dir} is a file; name the folder of the photographs.")
        raise FileNotFoundError(f"There is no image folder {image_dir}.")
    found = _Found()
    mask_dir = _inside(image_dir, masks)
    for folder, files in _walk(image_dir):
        parts = folder.relative_to(image_dir).parts
        is_side = any(part.lower() in _SIDE_FOLDERS for part in parts) or (
            mask_dir is not None and folder.resolve().is_relative_to(mask_dir)
        )
        names, stems = set(files), {Path(file).stem for file in files}
        for file in files:
            name = PurePosixPath(*parts, file).as_posix()
            if Path(file).suffix.lower() in OTHER_SUFFIXES:
                found.unread.append(name)
            elif is_side or _is_beside(file, names, stems):
                found.side.append(name)
            else:
                found.names.append(name)
    _report_others(image_dir, found)
    _check_names(image_dir, found.names)
    return sorted(found.names)


def _inside(image_dir: Path, folder: Path | None) -> Path | None:
    """Return the absolute path of a folder if it is a subfolder of another one."""
    if folder is None:
        return None
    path, root = Path(folder).resolve(), image_dir.resolve()
    return path if path != root and path.is_relative_to(root) else None


def _walk(image_dir: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield each folder that is not passed over, with the files that may be photographs."""
    visited = set()
    for folder, subfolders, files in os.walk(image_dir, followlinks=True):
        # A link to a parent folder would make the walk endless.
        real = os.path.realpath(folder)
        if real in visited:
            subfolders.clear()
            continue
        visited.add(real)
        shown = (name for name in subfolders if not name.startswith("."))
        subfolders[:] = [name for name in shown if not Path(folder, name, RECORD).exists()]
        suffixes = IMAGE_SUFFIXES | OTHER_SUFFIXES
        kept = [f for f in files if not f.startswith(".") and Path(f).suffix.lower() in suffixes]
        yield Path(folder), kept


def _is_beside(file: str, names: set[str], stems: set[str]) -> bool:
    """Return whether a file is the mask or thumbnail of another one of its folder.

    Args:
        file: name of the file.
        names: names of the files in the folder.
        stems: the same without their suffixes.
    """
    stem, suffix = Path(file).stem, Path(file).suffix
    if suffix.lower() == ".png" and stem in names:
        return True
    match = _SIDE_FILE.fullmatch(stem)
    return match is not None and (match[1] in names or match[1] in stems)


def _report_others(image_dir: Path, found: _Found) -> None:
    """Log what was passed over; raise ValueError if that is all."""
    unread = (
        f"{image_dir}: {len(found.unread)} photographs are of formats that are not read, the first "
        f"is {min(found.unread)}; convert them to JPEG."
        if found.unread
        else ""
    )
    side = (
        f"{image_dir}: {len(found.side)} images are passed over as masks or thumbnails, the first "
        f"is {min(found.side)}; list them in a file given as --image-list to use them."
        if found.side
        else ""
    )
    if not found.names:
        suffixes = " ".join(sorted(IMAGE_SUFFIXES))
        raise ValueError(
            f"There are no images in {image_dir} (looked for {suffixes}). {unread} {side}".rstrip()
        )
    for line in filter(None, (unread, side)):
        _warn_once(line)


@cache
def _warn_once(text: str) -> None:
    logger.warning(text)


def _check_names(image_dir: Path, names: Sequence[str]) -> None:
    """Raise ValueError with all names that cannot be used, and the command that renames them."""
    problems = {}
    for name in names:
        try:
            checked_name(name)
        except ValueError as error:
            problems[name] = str(error)
    if problems:
        bad = sorted(problems)
        command = f"featplug rename --images {quote(str(image_dir))}"
        raise ValueError(
            f"{image_dir}: {len(bad)} of {len(names)} image names cannot be used: "
            f"{enumerated([repr(name) for name in bad])}; `{command}` renames them. "
            f"The first: {problems[bad[0]]}"
        )


def rename_images(folder: Path, dry_run: bool = False) -> list[tuple[Path, Path]]:
    """Rename images, and folders of images, whose names files cannot carry, such as with spaces.

    White space and other characters that cannot be used become ``_``. Masks and thumbnails are
    images, too. Nothing is renamed unless all can be.

    Args:
        folder: the folder, whose own name stays.
        dry_run: rename nothing.

    Returns:
        Old and new path of each, in the order in which they are renamed: the contents of a folder
        before the folder.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: two files would have one name, or a file cannot be renamed.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no image folder {folder}.")
    renamed: list[tuple[Path, Path]] = []
    with_images: set[Path] = set()
    for parent, subfolders, files in os.walk(folder, topdown=False):
        suffixes = IMAGE_SUFFIXES | OTHER_SUFFIXES
        entries = [f for f in files if not f.startswith(".") and Path(f).suffix.lower() in suffixes]
        entries += [name for name in subfolders if Path(parent, name) in with_images]
        if entries:
            with_images.add(Path(parent))
        taken = {*files, *subfolders}
        for entry in sorted(entries):
            new = usable_part(entry)
            if new == entry:
                continue
            if new in taken:
                raise ValueError(
                    f"{Path(parent, entry)} would become {new}, which exists or another one "
                    "becomes, too; rename one of them. Nothing was renamed."
                )
            taken.add(new)
            renamed.append((Path(parent, entry), Path(parent, new)))
    for old, new_path in [] if dry_run else renamed:
        try:
            old.rename(new_path)
        except OSError as error:
            raise ValueError(
                f"{old} cannot be renamed to {new_path.name} ({error.strerror}); rename it by hand."
            ) from error
    return renamed
