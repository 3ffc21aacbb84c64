"""Disks that are full at some byte of a run: is the end a sentence, and is nothing lost or cut?

``python -m tests.attacks.full_disk --trials 60 --seed 0`` as root on Linux: each trial mounts a
small file system. A trial begins with nothing, with the files of some stages, or with a whole run,
and fails if it ends otherwise than with exit code 2 and one sentence that names the disk, or with
exit code 0 and the results of an undisturbed run, or if a failure changes an earlier result.
"""

import hashlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import tyro
from PIL import Image

from featplug.colmap.database_files import check_database
from featplug.colmap.model_files import read_model
from featplug.io import h5file
from tests.attacks.harness import TIMEOUT_SECONDS, Outcome, Tally, attempt, command
from tests.scenes.aachen_sets import write_room_set
from tests.scenes.room_corner import write_room_corner

COMMANDS = {
    "extract": "extract --image-dir {images} --feature-path {out}/f.h5 --max-keypoints 300",
    "match": "match --pairs {world}/pairs.txt --features {world}/f.h5 --matches {out}/m.h5",
    "export colmap": "export colmap --database {out}/x.db --features {world}/f.h5 "
    "--image-dir {images} --matches {world}/m.h5",
    "export kapture": "export kapture --output {out}/k --features {world}/f.h5",
    "sfm": "sfm --images {images} --outputs {out} --max-keypoints 300",
    "aachen": "aachen --dataset {world}/set/aachen_v1.1 --outputs {out} --max-keypoints 300",
}
PIPELINES = "sfm", "aachen"
RESULTS = "results.json", "points.ply", "database.db", "submission.txt", "logs.json"
BLOCK = 4096


UNDISTURBED_SECONDS = 600.0


def run(
    name: str, world: Path, out: Path, again: bool = False, timeout: float = UNDISTURBED_SECONDS
) -> Outcome:
    """Run a command in a forked process."""
    change = "--seed 1" if name in PIPELINES else "--overwrite"
    words = f"{COMMANDS[name]} {change * again}"
    images = world / "room" / "images"
    words = words.format(images=images, world=world, out=out)
    return attempt(command(*words.split()), timeout)


def write_world(world: Path) -> None:
    """Write the data."""

    def write_scenes() -> None:
        write_room_set(world / "set")
        write_room_corner(world / "room", width=320)
        names = sorted(path.name for path in (world / "room" / "images").iterdir())
        lines = [f"{a} {b}\n" for a in names for b in names if a < b]
        (world / "pairs.txt").write_text("".join(lines), encoding="utf-8")

    outcomes = [attempt(write_scenes), run("extract", world, world), run("match", world, world)]
    if any(outcome.exit_code for outcome in outcomes):
        raise RuntimeError("\n".join(outcome.output for outcome in outcomes))


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a file system, whose size :func:`resize` sets."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
        folder.rmdir()


def resize(disk: Path, size: int) -> None:
    """Set the size of a mounted file system."""
    subprocess.run(["mount", "-o", f"remount,size={size}", disk], check=True)


def files(folder: Path) -> list[Path]:
    """Return all files of a folder."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def num_bytes(folder: Path) -> int:
    """Return what the files of a folder take of a disk."""
    return sum(-(-path.stat().st_size // BLOCK) * BLOCK for path in files(folder))


def hashes(folder: Path) -> dict[str, str]:
    """Return the hash of each result in a folder, which is not all that a pipeline writes."""
    is_pipeline = (folder / "config.toml").exists()
    found = files(folder)
    if is_pipeline:
        found = [p for p in found if p.name in RESULTS or {"model", "sparse"} & {*p.parts}]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in found}


def whole(folder: Path) -> str | None:
    """Read all that a run has written, and return what is not whole."""
    for path in files(folder):
        if path.suffix == ".h5":
            with h5py.File(path) as file:
                file.visititems(lambda _, item: item[()] if hasattr(item, "shape") else None)
        elif path.suffix == ".db":
            check_database(path)
        elif path.suffix == ".png":
            Image.open(path).load()
        elif path.name == "images.bin":
            read_model(path.parent)
        elif path.name == "results.json" and (folder / "model").is_dir():
            metrics = json.loads(path.read_text())["metrics"]
            model = read_model(folder / "model")
            if metrics["sparse_points"]["value"] != model.num_points3D():
                return "results.json is of another model"
    return None


def figures(folder: Path) -> dict[str, float]:
    """Return the metrics of a run and the names of its files, but for those of pictures."""
    record = folder / "results.json"
    metrics = json.loads(record.read_text())["metrics"] if record.exists() else {}
    kinds = ".h5", ".safetensors", ".json", ".ply", ".bin", ".txt", ".db"
    names = {path.name: 1.0 for path in files(folder) if path.suffix in kinds}
    return {name: entry["value"] for name, entry in metrics.items()} | names


def difference(found: dict[str, float], good: dict[str, float]) -> str | None:
    """Return where figures differ by more than those of two runs; COLMAP's threads differ a bit."""
    for name in sorted(found.keys() | good.keys()):
        values = found.get(name, 0.0), good.get(name, 0.0)
        if not np.isclose(*values, rtol=0.02, atol=1e-3):
            return f"{name} is {values[0]} instead of {values[1]}"
    return None


def fault_of(
    outcome: Outcome, out: Path, before: dict[str, str], good: dict[str, float]
) -> str | None:
    """Return what a trial has done wrong, or None."""
    if outcome.exit_code == 0:
        try:
            problem = whole(out)
        except Exception as error:  # whatever a reader says of what should be whole
            problem = f"{type(error).__name__}: {error}"
        problem = problem or difference(figures(out), good)
        return problem and f"exit 0, but {problem}"
    if outcome.exit_code != 2:
        return f"exit code {outcome.exit_code}"
    if "disk" not in outcome.message or "free some" not in outcome.message:
        return "no sentence of a full disk"
    after = hashes(out)
    changed = [name for name, digest in before.items() if after.get(name) != digest]
    return f"lost or changed: {', '.join(changed)}" if changed else None


def main(trials: int = 60, seed: int = 0) -> None:
    """Fill disks.

    Args:
        trials: number of trials.
        seed: seed of the operations and sizes.
    """
    tally = Tally("full disks", seed)
    margin = h5file._FREE_DISK_MARGIN
    with tempfile.TemporaryDirectory() as temporary:
        world = Path(temporary)
        write_world(world)
        good: dict[tuple[str, bool], tuple[Path, dict[str, float]]] = {}
        for name in COMMANDS:
            for again in (False, True):
                out = world / "good" / f"{name.replace(' ', '-')}-{again}"
                if again:
                    shutil.copytree(good[name, False][0], out, symlinks=True)
                else:
                    out.mkdir(parents=True)
                outcome = run(name, world, out, again)
                if outcome.exit_code:
                    raise RuntimeError(outcome.output)
                good[name, again] = out, figures(out)
        for trial in range(trials):
            rng = np.random.default_rng([seed, trial])
            name = list(COMMANDS)[trial % len(COMMANDS)]
            starts = (
                ("nothing", *["stores", "all"] * 4) if name in PIPELINES else ("nothing", "all")
            )
            start = str(rng.choice(starts))
            again = start == "all"
            with small_disk(world / "disk") as disk:
                out, whole_run = disk / "out", good[name, False][0]
                results = *RESULTS, "model", "sparse", "sfm", "colmap_models"
                not_kept = () if start == "all" else results
                if start == "nothing":
                    out.mkdir()
                else:
                    ignored = shutil.ignore_patterns(*not_kept)
                    shutil.copytree(whole_run, out, symlinks=True, ignore=ignored)
                need = num_bytes(whole_run) - num_bytes(out) * (not again)
                free = int(rng.uniform(0, 1.2 * need + 100 * BLOCK))
                resize(disk, num_bytes(out) + free)
                before = hashes(out)
                # Else a store stops in time; here another process fills the disk after it looked.
                h5file._FREE_DISK_MARGIN = int(rng.choice([margin, 0]))
                outcome = run(name, world, out, again, TIMEOUT_SECONDS)
                fault = fault_of(outcome, out, before, good[name, again][1])
                tally.add(f"{trial} {name} from {start}, {free} bytes free", outcome, fault)
    tally.finish()


if __name__ == "__main__":
    tyro.cli(main)
