"""Links to files and folders, where the system and the disk have them.

Windows lets only administrators and developers make links, and some network and USB disks have
none. What has no link is copied or left out, as the caller decides.
"""

from collections.abc import Mapping
from pathlib import Path

from featplug.io.files import write_whole


def link_folder(path: Path, target: Path) -> bool:
    """Make a path a link to a folder; it replaces a file, folder or link of that name.

    Args:
        path: the link.
        target: the folder, absolute or relative to the folder of the link.

    Returns:
        Whether there can be links here; what was there stays where not.

    Raises:
        ValueError: the disk is full.
    """
    try:
        write_whole(path, lambda part: part.symlink_to(target, target_is_directory=True))
    except OSError:
        return False
    return True


def link_files(folder: Path, targets: Mapping[str, Path]) -> bool:
    """Make a folder of links to files, whole or not at all; it replaces one of that name.

    Args:
        folder: the folder.
        targets: name of each link, with ``/`` between folders, to an absolute path.

    Returns:
        Whether there can be links here; what was there stays where not.

    Raises:
        ValueError: the disk is full.
    """

    def write(part: Path) -> None:
        part.mkdir()
        for name, target in targets.items():
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            (part / name).symlink_to(target)

    try:
        write_whole(folder, write)
    except OSError:
        return False
    return True


def has_only_links(path: Path) -> bool:
    """Return whether a path is a link, or a folder in which every file is one."""
    if path.is_symlink():
        return True
    return path.is_dir() and all(
        entry.is_symlink() or (entry.is_dir() and has_only_links(entry)) for entry in path.iterdir()
    )
