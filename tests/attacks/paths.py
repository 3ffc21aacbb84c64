"""Names that try to leave the folder of an export, with a watch on everything around it.

Names come from HDF5 files, databases and kapture folders of others; symbolic links lie in the
folder that is written. A fault is a file made, changed or removed outside the folder, or a name
that is left out without a word.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
import tempfile
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import tyro
from PIL import Image

from featplug.io.exchange.colmap import DatabaseOptions, export_database
from featplug.io.exchange.kapture import export_kapture
from featplug.io.names import checked_name
from tests.attacks.harness import Outcome, Tally, attempt, command

PARTS = (
    *("a", "b.jpg", "..", "../..", "/", "//", ".", "~", "link", "C:", "\\", "..\\x", "%2e%2e"),
    *("\u2024\u2024", "\uff0f", "con", "-rf", "$(id)", "*", "a b", "\t", "\n", "\x01", "x" * 300),
    *("#c", ".hidden", "keypoints", "matches", "\ufeff", "\u202e", "é", "e\u0301"),
)
FORMATS = ("schoenberger", "d2net", "kapture", "colmap")
SIZE = (32, 24)


def bad_name(rng: random.Random) -> str:
    """Return a name that is absolute, climbs, hides, or holds what file systems do not like."""
    parts = [rng.choice(PARTS) for _ in range(rng.randint(1, 5))]
    return rng.choice(("", "", "/", "../", "link/", "sub/../../")) + "/".join(parts)


def is_usable(name: str) -> bool:
    """Return whether an image can have a name."""
    with suppress(ValueError):
        return bool(checked_name(name.strip("/")))
    return False


def said(outcome: Outcome) -> bool:
    """Return whether the command lists something as left out."""
    return "left out: " in outcome.output


def write_features(path: Path, names: list[str]) -> list[str]:
    """Write features of images as hloc does; returns the names that HDF5 takes."""
    written = []
    with h5py.File(path, "w") as file:
        for name in names:
            try:
                group = file.create_group(name)
                group["keypoints"] = np.ones((3, 2), np.float32)
                group["scores"] = np.ones(3, np.float32)
                group["descriptors"] = np.ones((8, 3), np.float32)
                group["image_size"] = np.array(SIZE)
            except (ValueError, OSError, KeyError):  # HDF5 has limits of its own
                continue
            written.append(name)
    return written


def snapshot(folder: Path, without: Path) -> dict[str, bytes | str]:
    """Return all that is below a folder, but not below another one."""
    found: dict[str, bytes | str] = {}
    for path in folder.rglob("*"):
        if path == without or without in path.parents:
            continue
        is_file = path.is_file() and not path.is_symlink()
        found[str(path)] = path.read_bytes() if is_file else "folder or link"
    return found


def make_links(target: Path, outside: Path, rng: random.Random) -> None:
    """Put links that lead out of the target into it, wherever an export may write."""
    kinds = ("keypoints", "descriptors", "matches")
    folders = [Path(), *map(Path, kinds)]
    folders += [Path("reconstruction", kind, "featplug") for kind in kinds]
    for folder in folders:
        (target / folder).mkdir(parents=True, exist_ok=True)
        (target / folder / "link").symlink_to(rng.choice((outside, Path("/"), Path("../.."))))
    if rng.random() < 0.3:
        (target / "sensors").symlink_to(outside)


def run_export(work: Path, rng: random.Random) -> tuple[str, Outcome, str | None]:
    """Export an HDF5 file of bad names."""
    form, outside, target = rng.choice(FORMATS), work / "outside", work / "in" / "target"
    outside.mkdir()
    (outside / "kept.bin").write_bytes(b"kept")
    (outside / "a.d2-net").write_bytes(b"kept")
    images = work / "images"
    images.mkdir()
    Image.new("L", SIZE).save(images / "good.png")
    names = [*(bad_name(rng) for _ in range(rng.randint(1, 6))), *["good.png"] * rng.choice((0, 1))]
    written = write_features(work / "feats.h5", names)
    make_links(target, outside, rng)
    before = snapshot(work, target)
    words: tuple[str | Path, ...] = ("--output", target, "--features", work / "feats.h5")
    if form == "colmap":
        words = ("--database", target / "d.db", *words[2:], "--image_dir", images)
    outcome = attempt(command("export", form, *words, "--overwrite"))
    fault = None if snapshot(work, target) == before else "escaped"
    if outcome.exit_code == 0 and not all(map(is_usable, written)) and not said(outcome):
        fault = fault or "a name was left out without a word"
    return f"export {form} {written}", outcome, fault


def run_import(work: Path, rng: random.Random) -> tuple[str, Outcome, str | None]:
    """Import a database or a kapture folder with a bad name, and export what came of it."""
    images, target = work / "images", work / "in" / "target"
    images.mkdir()
    for name in ("good.png", "other.png"):
        Image.new("L", SIZE).save(images / name)
    write_features(work / "feats.h5", ["good.png", "other.png"])
    name = bad_name(rng)
    if rng.random() < 0.5:
        source = work / "d.db"
        export_database(source, work / "feats.h5", images, options=DatabaseOptions())
        connection = sqlite3.connect(source)
        connection.execute("UPDATE images SET name = ? WHERE name = 'other.png'", (name,))
        connection.commit()
        connection.close()
        words: tuple[str | Path, ...] = ("colmap", "--database", source)
    else:
        source = work / "kapture"
        export_kapture(source, work / "feats.h5")
        records = source / "sensors" / "records_camera.txt"
        records.write_text(records.read_text().replace("other.png", name.replace(",", "")))
        words = ("kapture", "--kapture", source)
    target.mkdir(parents=True)
    before = snapshot(work, target)
    outcome = attempt(command("import", *words, "--features", target / "back.h5"))
    fault = None if snapshot(work, target) == before else "escaped"
    if outcome.exit_code == 0:
        with h5py.File(target / "back.h5") as file:
            num_images = sum(1 for key in _groups(file))
        if num_images < 2 and not said(outcome):
            fault = fault or "a name was left out without a word"
        shutil.copy(target / "back.h5", work / "back.h5")
        before = snapshot(work, target)
        words = ("--output", target / "again", "--features", work / "back.h5")
        outcome = attempt(command("export", rng.choice(FORMATS[:3]), *words))
        fault = fault or (None if snapshot(work, target) == before else "escaped")
    return f"import {words[0]} {name!r}", outcome, fault


def _groups(file: h5py.File) -> list[str]:
    found: list[str] = []
    file.visit(lambda name: found.append(name) if name.endswith("keypoints") else None)
    return found


def main(trials: int = 300, seed: int = 0) -> None:
    """Run the trials, and print the line of the table."""
    tally = Tally("paths of exports and imports", seed)
    for number in range(trials):
        rng = random.Random(f"{seed}-{number}")
        with tempfile.TemporaryDirectory() as folder:
            run = rng.choice((run_export, run_export, run_import))
            tally.add(*run(Path(folder), rng))
    tally.finish()


if __name__ == "__main__":
    tyro.cli(main)
