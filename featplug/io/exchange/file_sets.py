"""Files of one kind below a folder, which take the place of an earlier export's all at once.

They are made in a hidden folder next to their places, so that an export that fails, or whose input
is damaged, leaves the earlier one as it was.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from featplug.io.files import flush, part_path, recover, remove
from featplug.io.names import path_below
from featplug.utils.interrupts import delayed_interrupts


class FileSet:
    """Files of one suffix, named after images or pairs.

    Args:
        root: folder of the export, which no file leaves.
        below: folder of these files, relative to ``root``; ``root`` itself if empty.
        suffix: end of the file names, after the images' names.
        overwrite: replace all files with that suffix, at any depth.

    Raises:
        FileExistsError: there are such files, and they may not be replaced.
    """

    def __init__(self, root: Path, below: str, suffix: str, overwrite: bool) -> None:
        self.folder = root / below
        self.suffix = suffix
        self._root, self._below = root, below
        self._made = [path for path in (self.folder, *self.folder.parents) if not path.exists()]
        self._part = part_path(self.folder / "export")
        if self.folder.is_dir():
            recover(self.folder / "export")
        found = (path.relative_to(self.folder) for path in self.folder.rglob(f"*{suffix}"))
        self._earlier = {path for path in found if not path.parts[0].startswith(".")}
        self._earlier = {path for path in self._earlier if (self.folder / path).is_file()}
        if self._earlier and not overwrite:
            raise FileExistsError(
                f"{self.folder} holds {len(self._earlier)} {suffix} files already; choose another "
                "folder, or --overwrite to replace them."
            )

    def path(self, name: str) -> Path:
        """Return the path of a file; errors are those of :func:`featplug.io.names.path_below`."""
        return path_below(self._root, f"{self._below}/{name}" if self._below else name, self.suffix)

    def write(self, name: str, write: Callable[[Path], Any]) -> None:
        """Write the file of an image or a pair.

        Raises:
            ValueError: the name leads out of the folder.
        """
        self._write(self.path(name), write)

    def write_description(self, name: str, text: str) -> None:
        """Write a text file that describes the files, with a name of its own."""
        self._write(
            path_below(self.folder, name), lambda part: part.write_text(text, encoding="utf-8")
        )

    def _write(self, path: Path, write: Callable[[Path], Any]) -> None:
        part = self._part / path.relative_to(self.folder)
        part.parent.mkdir(parents=True, exist_ok=True)
        write(part)

    def flush(self) -> None:
        """Make the disk keep what was written."""
        flush(self._part)

    def replace(self) -> None:
        """Move what was written to its place, and remove the other earlier files."""
        made = sorted(path for path in self._part.rglob("*") if path.is_file())
        for part in made:
            path = path_below(self.folder, part.relative_to(self._part).as_posix())
            path.parent.mkdir(parents=True, exist_ok=True)
            part.replace(path)
        for stale in self._earlier - {part.relative_to(self._part) for part in made}:
            (self.folder / stale).unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove what was not moved, and the folders that were made and are empty."""
        remove(self._part)
        for path in self._made:
            with suppress(OSError):  # it does not exist, or has something in it
                path.rmdir()


@contextmanager
def replaced_together(sets: Sequence[FileSet]) -> Iterator[None]:
    """Move the files of sets to their places when the block ends without an exception."""
    try:
        yield
        for file_set in sets:
            file_set.flush()
        with delayed_interrupts(also_second=True):  # not a mixture of both exports
            for file_set in sets:
                file_set.replace()
    finally:
        for file_set in sets:
            file_set.discard()


def writable_names(
    names: Iterable[str], sets: Sequence[FileSet], skipped: dict[str, str]
) -> list[str]:
    """Return the names whose files stay in the folder; ``skipped`` gets the others with the reason.

    Raises:
        ValueError: there is none.
    """
    writable = []
    reason = "There are no images."
    for name in names:
        try:
            for file_set in sets:
                file_set.path(name)
        except ValueError as error:
            skipped[name] = reason = str(error)
        else:
            writable.append(name)
    if not writable:
        raise ValueError(reason)
    return writable
