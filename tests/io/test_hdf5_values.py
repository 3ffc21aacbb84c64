from __future__ import annotations

import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest

from featplug.io.hdf5_values import hard_linked, read_dataset
from featplug.io.limits import Budget, LimitError

VALUES = np.arange(1000, dtype=np.float32).reshape(10, 100)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"chunks": (3, 70)},
        {"compression": "lzf"},
        {"compression": "gzip", "shuffle": True, "fletcher32": True},
    ],
)
def test_numbers_are_read(tmp_path: Path, options: dict[str, object]) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        np.testing.assert_array_equal(
            read_dataset(file.create_dataset("a", data=VALUES, **options), Budget(10**6)), VALUES
        )
        np.testing.assert_array_equal(read_dataset(file.create_dataset("b", data=2), Budget()), 2)


def test_a_data_set_larger_than_the_budget_is_not_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        huge = file.create_dataset("huge", (2**40,), "f4", chunks=(2**10,))
        with pytest.raises(LimitError):
            read_dataset(huge, Budget())
        wide = file.create_dataset("wide", (10,), "f4", chunks=(2**29,), maxshape=(None,))
        with pytest.raises(LimitError):
            read_dataset(wide, Budget())


@pytest.mark.parametrize("mask", [0, 1])
def test_a_chunk_that_unpacks_to_more_than_its_size_is_not_read(tmp_path: Path, mask: int) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        bomb = file.create_dataset("bomb", (10,), "f4", chunks=(10,), compression="gzip")
        bomb.id.write_direct_chunk((0,), zlib.compress(bytes(10**6)), filter_mask=mask)
        with pytest.raises((LimitError, OSError)):
            read_dataset(bomb, Budget(10**5))


def test_other_files_are_not_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret.bin"
    VALUES.tofile(secret)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["a"] = VALUES
    with h5py.File(tmp_path / "a.h5", "w") as file:
        raw = file.create_dataset(
            "raw", VALUES.shape, "f4", external=[(str(secret), 0, h5py.h5f.UNLIMITED)]
        )
        layout = h5py.VirtualLayout(VALUES.shape, "f4")
        layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "a", VALUES.shape)
        virtual = file.create_virtual_dataset("virtual", layout)
        np.testing.assert_array_equal(raw, VALUES)
        np.testing.assert_array_equal(virtual, VALUES)
        for dataset in (raw, virtual):
            with pytest.raises(ValueError, match="lies in another file"):
                read_dataset(dataset, Budget())
        file["link"] = h5py.ExternalLink("other.h5", "a")
        file["soft"] = h5py.SoftLink("/raw")
        assert hard_linked(file, "raw") == raw
        for name in ("link", "soft"):
            with pytest.raises(ValueError, match=f"{name} is a link"):
                hard_linked(file, name)


def test_what_is_not_numbers_is_not_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["text"] = "text"
        file.create_dataset("ragged", (3,), h5py.vlen_dtype(np.float32))
        file["empty"] = h5py.Empty("f4")
        file["packed"] = file.create_dataset("rounded", data=VALUES, scaleoffset=3)
        for name in ("text", "ragged", "empty", "packed", "/"):
            with pytest.raises(ValueError, match=r"not made of numbers|not read"):
                read_dataset(file[name], Budget())
