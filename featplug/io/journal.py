"""A file whose changes appear all at once, for HDF5 to write through.

HDF5 changes its index in place and in several writes; a process that is killed between them leaves
a file that cannot be opened or lists garbage (every flush has such instants). Here bytes beyond the
last commit go straight to the file, where nothing refers to them yet, and changes of older bytes
are held back. A commit, which is HDF5's flush, first writes the changes to a journal next to the
file, then makes them, then removes the journal. The next run carries out a complete journal and
discards an incomplete one: at any instant the file is in the state of one commit or the next. The
journal also has the old bytes, so that one of another file, which was deleted or has been replaced
by a copy since, is recognized and discarded.

This guards against the death of the process, not of the power supply.
"""

import io
import os
import struct
import zlib
from pathlib import Path

from featplug.io.locks import open_locked

_MAGIC = b"featplug-journal-2"
_HEADER = struct.Struct("<QQI")  # the file's size before and after, number of changes
_CHANGE = struct.Struct("<QI")  # offset, number of bytes; the old and the new bytes follow
_BLOCK = 4096
_BINARY = getattr(os, "O_BINARY", 0)
"""Flag that keeps Windows from changing line ends."""
_Change = tuple[int, bytes, bytes]
"""Offset, old and new bytes of a change."""


def journal_path(path: Path) -> Path:
    """Return where the journal of a file is during a commit."""
    return path.with_name(path.name + ".journal")


def recover(path: Path) -> None:
    """Finish or undo a commit that a kill interrupted; does nothing to other files.

    Raises:
        BlockingIOError: another process is writing the file.
    """
    if path.exists() and journal_path(path).exists():
        JournaledFile(path).close()


class JournaledFile(io.RawIOBase):
    """A file open for reading and writing, locked against other writers and HDF5 readers.

    See :func:`featplug.io.locks.open_locked`.

    Raises:
        BlockingIOError: another process has it open.
        OSError: it cannot be opened, or its file system has no locks.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = Path(path)
        self._fd = open_locked(self._path)
        try:
            self._recover()
        except BaseException:
            os.close(self._fd)
            raise
        self._committed = self._size = os.fstat(self._fd).st_size
        self._held_back: dict[int, bytearray] = {}
        """Changed blocks below ``_committed``, by block number."""
        self._position = 0

    @property
    def size(self) -> int:
        """Bytes, with what is not committed."""
        return self._size

    def readable(self) -> bool:
        """Always."""
        return True

    def writable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """Position of the next read or write."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move; also beyond the end."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = base + offset
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read what was written, committed or not."""
        view = memoryview(buffer).cast("B")
        num = max(0, min(len(view), self._size - self._position))
        data = b"" if self.closed else _pread(self._fd, num, self._position)
        view[: len(data)] = data
        view[len(data) : num] = bytes(num - len(data))  # a hole at the end reads as zeros
        old = max(0, min(num, self._committed - self._position))
        for block, start, stop in self._blocks(self._position, old):
            if block in self._held_back:
                offset = block * _BLOCK
                at = offset + start - self._position
                view[at : at + stop - start] = self._held_back[block][start:stop]
        self._position += num
        return num

    def write(self, data: memoryview) -> int:  # type: ignore[override]
        """Write new bytes to the file, and hold changes of committed ones back.

        After :meth:`close` nothing is written, as the descriptor may be that of another file: HDF5
        tries it as it discards a file that it could not close.
        """
        view = memoryview(data).cast("B")
        position, num = self._position, len(view)
        if self.closed:
            return num
        old = max(0, min(num, self._committed - position))
        for block, start, stop in self._blocks(position, old):
            held = self._held_back.get(block)
            if held is None:
                held = bytearray(_pread(self._fd, _BLOCK, block * _BLOCK))
                held.extend(bytes(_BLOCK - len(held)))
                self._held_back[block] = held
            at = block * _BLOCK + start - position
            held[start:stop] = view[at : at + stop - start]
        _pwrite(self._fd, view[old:], position + old)
        self._position += num
        self._size = max(self._size, self._position)
        return num

    def truncate(self, size: int | None = None) -> int:
        """Set the size; committed bytes are cut off with the next commit."""
        self._size = self._position if size is None else size
        if self._size >= self._committed and not self.closed:
            os.ftruncate(self._fd, self._size)
        return self._size

    def flush(self) -> None:
        """Commit."""
        if self.closed:
            return
        if self._held_back or self._size < self._committed:
            self._commit()
        self._committed = self._size

    def close(self) -> None:
        """Close without a commit: HDF5 flushes before it closes, a failed run should not."""
        if not self.closed:
            self._held_back.clear()
            self._committed = self._size
            super().close()
            os.close(self._fd)

    @staticmethod
    def _blocks(position: int, num: int) -> list[tuple[int, int, int]]:
        """Cut a range of bytes into (block number, first byte, last byte + 1 in the block)."""
        blocks = []
        stop = position + num
        while position < stop:
            block, start = divmod(position, _BLOCK)
            end = min(_BLOCK, start + stop - position)
            blocks.append((block, start, end))
            position += end - start
        return blocks

    def _commit(self) -> None:
        changes: list[_Change] = []
        for block, held in sorted(self._held_back.items()):
            # Blocks that reach beyond the committed bytes hold only the part that is older.
            at = block * _BLOCK
            num = min(_BLOCK, self._committed - at, self._size - at)
            if num > 0:
                changes.append((at, _pread(self._fd, num, at), bytes(held[:num])))
        body = _HEADER.pack(os.fstat(self._fd).st_size, self._size, len(changes))
        body += b"".join(_CHANGE.pack(at, len(new)) + old + new for at, old, new in changes)
        journal = journal_path(self._path)
        fd = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _BINARY)
        try:
            _pwrite(fd, _MAGIC + body + struct.pack("<I", zlib.crc32(body)), 0)
        finally:
            os.close(fd)
        self._carry_out(self._size, changes)
        journal.unlink()
        self._held_back.clear()

    def _carry_out(self, size: int, changes: list[_Change]) -> None:
        for offset, _, new in changes:
            _pwrite(self._fd, new, offset)
        os.ftruncate(self._fd, size)

    def _recover(self) -> None:
        journal = journal_path(self._path)
        try:
            content = journal.read_bytes()
        except FileNotFoundError:
            return
        body = content[len(_MAGIC) : -4]
        checksum = struct.pack("<I", zlib.crc32(body))
        if content.startswith(_MAGIC) and content[-4:] == checksum:
            old_size, size, count = _HEADER.unpack_from(body)
            at, changes = _HEADER.size, []
            for _ in range(count):
                offset, num = _CHANGE.unpack_from(body, at)
                at += _CHANGE.size
                changes.append((offset, body[at : at + num], body[at + num : at + 2 * num]))
                at += 2 * num
            if os.fstat(self._fd).st_size in (old_size, size) and all(map(self._is_own, changes)):
                self._carry_out(size, changes)
        journal.unlink()

    def _is_own(self, change: _Change) -> bool:
        """Return whether the file has the old bytes, the new ones, or new ones before old ones."""
        offset, old, new = change
        current = _pread(self._fd, len(new), offset)
        equal = (a == b for a, b in zip(current, new, strict=False))
        num_new = next((i for i, is_equal in enumerate(equal) if not is_equal), len(current))
        return current == new[:num_new] + old[num_new:]


def _pread(fd: int, num: int, offset: int) -> bytes:
    if hasattr(os, "pread"):
        return os.pread(fd, num, offset)
    os.lseek(fd, offset, os.SEEK_SET)  # Windows
    return os.read(fd, num)


def _pwrite(fd: int, data: memoryview | bytes, offset: int) -> None:
    view = memoryview(data)
    while len(view):
        if hasattr(os, "pwrite"):
            written = os.pwrite(fd, view, offset)
        else:  # Windows
            os.lseek(fd, offset, os.SEEK_SET)
            written = os.write(fd, view)
        view, offset = view[written:], offset + written
