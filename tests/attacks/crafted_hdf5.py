"""HDF5 files of features, matches and descriptors with something else in the place of a part."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

ARRAYS = {
    "features": ("keypoints", "descriptors", "scores", "image_size"),
    "theirs": ("keypoints", "descriptors", "scores", "image_size"),
    "matches": ("matches0", "matching_scores0"),
    "global": ("global_descriptor",),
}
VALUES: tuple[Callable[[np.ndarray], object], ...] = (
    lambda a: with_one(a, np.nan),
    lambda a: with_one(a, np.inf),
    lambda a: with_one(a.astype(float), 1e300),
    lambda a: with_one(a, -(2**15)),
    lambda a: a.T,
    lambda a: a[:-1],
    lambda a: np.concatenate([a, a]),
    lambda a: a[None],
    lambda a: a.ravel()[0],
    lambda a: a[:0],
    lambda a: a.astype(complex),
    lambda a: a.astype(bool),
    lambda a: a.astype(">f8"),
    lambda a: a.astype(np.longdouble),
    lambda a: np.abs(a).astype(np.uint64) + 2**63,
    lambda a: a.astype("S8"),
    lambda a: a.astype([("x", "f4")]),
    lambda a: np.zeros((*a.shape, 3)),
    lambda a: np.array("text", h5py.string_dtype()),
    lambda a: np.array([[1.0, 2.0], [3.0, 4.0]]).view("V16"),
    lambda a: h5py.Empty("f"),
)
FORMS: tuple[dict[str, object], ...] = (
    {"shape": (2**28, 2)},
    {"shape": (2**28, 2), "chunks": (2**16, 2), "compression": "gzip"},
    {"shape": (128, 2**31), "chunks": (128, 2**10)},
    {"shape": (0, 2**40)},
    {"shape": (60, 2), "maxshape": (None, None), "chunks": True},
    {"shape": (60, 2), "external": [("/etc/hostname", 0, 480)]},
    {"shape": (60, 2), "dtype": h5py.enum_dtype({"a": 1})},
    {"shape": (60, 2), "dtype": h5py.ref_dtype},
    {"shape": (60, 2), "dtype": h5py.vlen_dtype(float)},
    {"shape": (60, 2), "dtype": h5py.string_dtype()},
    {"shape": (128, 2**20), "chunks": (128, 2**10), "compression": "gzip", "fillvalue": 1},
)
ATTRIBUTES = (
    '{"a":1}',
    "[]",
    "x",
    b"\xff",
    7,
    np.nan,
    -1,
    np.arange(3),
    h5py.Empty("f"),
    "{" * 9999,
)
NAMES = ("../../x.jpg", "a b.jpg", "#.jpg", "C:\\x.jpg", "a" * 300, "\x01.jpg", "/".join("a" * 600))


def with_one(array: np.ndarray, value: float) -> np.ndarray:
    array = array.copy() if array.dtype.kind == "f" or np.isfinite(value) else array.astype(float)
    array.flat[array.size // 2] = value
    return array


def link_badly(file: h5py.File, group: h5py.Group, rng: random.Random) -> str:
    """Add links that lead into a circle, nowhere, out of the file, or to a name of no image."""
    where, pipe = rng.choice((file, group)), Path(file.filename).with_name("pipe")
    os.mkfifo(pipe)
    target: object = rng.choice(
        (file["/"], group, h5py.SoftLink("/x"), h5py.SoftLink("."), h5py.SoftLink("/nowhere"),
         h5py.ExternalLink("nowhere.h5", "/"), h5py.ExternalLink(file.filename, "/"),
         h5py.ExternalLink(str(pipe), "/"), np.dtype("f4"))
    )  # fmt: skip
    name = rng.choice(("x", "db/x.jpg", "keypoints", *NAMES))
    if name in where:
        del where[name]
    where[name] = target
    return f"{name!r} in {where.name} links to {target}"


def craft(path: Path, kind: str, rng: random.Random) -> str:
    """Put something else in the place of an array, attribute or group of a file."""
    with h5py.File(path, "r+") as file:
        groups: list[h5py.Group] = []
        file.visititems(
            lambda _, item: groups.append(item.parent) if isinstance(item, h5py.Dataset) else None
        )
        group, key = rng.choice(groups), rng.choice(ARRAYS[kind])
        way = rng.choice(("value", "value", "value", "form", "attribute", "link", "lose", "root"))
        if way == "attribute":
            owner = rng.choice((file, group, group[key]))
            name = rng.choice((*owner.attrs, "uncertainty", "image_fingerprint"))
            owner.attrs[name] = value = rng.choice(ATTRIBUTES)
            return f"{owner.name}@{name} is {str(value)[:20]!r}"
        if way == "link":
            return link_badly(file, group, rng)
        old = group[key][()]
        place = file if way == "root" else group
        name = group.name.rpartition("/")[2] if way == "root" else key
        if name in place:
            del place[name]
        if way in ("value", "root"):
            change = rng.randrange(len(VALUES))
            place[name] = VALUES[change](old)
            return f"{place.name}/{name} changed by {change}"
        if way == "form":
            form = rng.choice(FORMS)
            group.create_dataset(key, **{"dtype": np.float32, **form})
            return f"{group.name}/{key} is {form}"
        return f"{group.name} lost {key}"
