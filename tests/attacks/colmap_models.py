"""Damaged and crafted COLMAP models and databases, through everything that reads them.

Besides the harness's faults, a model or database that is read with exit code 0 but other numbers of
images, points or matches than the undamaged one has is a fault, unless the command says what it
left out.
"""

from __future__ import annotations

import random
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pycolmap
import tyro

from featplug.colmap.model_files import read_model, write_model
from featplug.colmap.nvm import read_nvm, write_nvm
from featplug.io.exchange.colmap import DatabaseOptions, export_database
from featplug.io.exchange.d2net import export_archives
from featplug.io.exchange.kapture import export_kapture
from featplug.io.exchange.schoenberger import export_dataset
from featplug.localization.in_model import ModelPoints
from featplug.metrics.poses import model_cameras, model_poses, reconstruction_statistics
from featplug.report.model_views import view_model
from featplug.stages.pairs import covisible, from_poses
from pipelines.datasets.true_poses import read_reference_poses
from tests.attacks.harness import Outcome, Tally, attempt, command, damage
from tests.scenes.synthetic import write_synthetic_scene

MODELS = ("binary", "rigs", "text", "text rigs")
IMPORTS = ("database", "database", "database", "schoenberger", "d2net", "kapture")
"""Kinds that are imported; COLMAP's database is the one with most to go wrong."""
KINDS = (*MODELS, "nvm", *IMPORTS)
WITHOUT_COUNTS = ("kapture",)
"""Formats whose arrays have no length of their own: one that is cut short is not seen to be."""
WORDS = (
    *("nan", "inf", "-1", "0", "1.5", "1e999", "1e300", "x", "9" * 30, "4294967295", "1_0"),
    *("\0", "\u0663", "../x", "a b", "", "#", "\n", "\r", "2000000000", "CAMERA", "-0"),
)
STATEMENTS = (
    "UPDATE {table} SET {column} = {value}",
    "UPDATE {table} SET {column} = {value} WHERE rowid = 1",
    "UPDATE {table} SET {column} = {value} WHERE rowid = 1",
    "DELETE FROM {table} WHERE rowid = 1",
    "DROP TABLE {table}",
    "ALTER TABLE {table} DROP COLUMN {column}",
    "CREATE TRIGGER t AFTER INSERT ON {table} BEGIN DELETE FROM images; END",
    "PRAGMA user_version = {value}",
)
VALUES = (
    *("-1", "0", "1", "999", "2000000000", "9223372036854775807", "1e300", "NULL", "'text'"),
    *("X''", "zeroblob(7)", "zeroblob(48)", "'../../x.png'", "X'6100622E706E67'", "'a' || char(0)"),
)


def write_bases(folder: Path, seed: int) -> None:
    """Write an undamaged input of each kind."""
    pycolmap.set_random_seed(seed)
    for kind in MODELS:
        options = pycolmap.SyntheticDatasetOptions()
        options.num_rigs, options.num_frames_per_rig, options.num_points3D = 2, 3, 40
        options.num_cameras_per_rig = 2 if "rigs" in kind else 1
        model = pycolmap.synthesize_dataset(options)
        (folder / kind).mkdir()
        (model.write_text if "text" in kind else model.write_binary)(str(folder / kind))
        if "rigs" not in kind:
            for path in [*(folder / kind).glob("rigs.*"), *(folder / kind).glob("frames.*")]:
                path.unlink()
    (folder / "nvm").mkdir()
    write_nvm(folder / "nvm" / "model.nvm", read_model(folder / "binary"))
    scene = write_synthetic_scene(folder / "scene", num_images=4)
    options = DatabaseOptions(descriptors="float")
    database = folder / "database" / "database.db"
    export_database(database, scene.features, scene.images, scene.matches, options=options)
    export_kapture(folder / "kapture", scene.features, scene.matches)
    export_archives(folder / "d2net", scene.features)
    export_dataset(folder / "schoenberger", scene.features, scene.matches)


def craft(path: Path, rng: random.Random) -> str:
    """Change a value of a text file or a database, or damage a file of another kind."""
    if path.suffix == ".db":
        return _craft_rows(path, rng)
    if path.suffix not in (".txt", ".nvm"):
        return damage(path, rng)
    words = re.split(r"(\s+)", path.read_text())
    at, word = rng.randrange(0, len(words), 2), rng.choice(WORDS)
    words[at] = word
    marks = rng.choice(("", "", "", "\ufeff"))
    encoding = rng.choice(("utf-8", "utf-8", "utf-8", "utf-16", "latin-1"))
    path.write_bytes((marks + "".join(words)).encode(encoding, "replace"))
    return f"word {at} of {path.name} is {word!r}"


def _craft_rows(path: Path, rng: random.Random) -> str:
    connection = sqlite3.connect(path)
    tables = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    table = rng.choice(sorted(connection.execute(tables).fetchall()))[0]
    column = rng.choice(connection.execute(f"PRAGMA table_info({table})").fetchall())[1]
    statement = rng.choice(STATEMENTS).format(table=table, column=column, value=rng.choice(VALUES))
    with suppress(sqlite3.Error):
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute(statement)
        connection.commit()
    connection.close()
    return statement


def use_model(folder: Path) -> None:
    """Do with a model what pairs, sfm, localize and the report do, and print its counts."""
    if (path := folder / "model.nvm").is_file():
        cameras = model_cameras(read_model(folder.parent / "binary"))
        model = read_nvm(path, cameras)
    else:
        model = read_model(folder)
        read_reference_poses(folder)
        if model_poses(model):
            view_model(folder)
    covisible(model, 2)
    from_poses(model_poses(model), 2, 30.0)
    statistics = reconstruction_statistics(model)
    points = ModelPoints(model)
    for name in points.image_ids:
        points.rows(name)
    write_model(model, folder / "again")
    assert np.isfinite(points.xyz).all()
    print("counts", len(points.image_ids), len(points.ids), statistics.num_observations)


def as_command(work: Callable[[], None]) -> Callable[[], None]:
    """Return a trial that ends as a command of featplug does."""

    def trial() -> None:
        try:
            work()
        except (ValueError, OSError) as error:
            if "\n" in str(error):
                raise RuntimeError("more than one line") from error
            print(f"featplug: {error}")
            raise SystemExit(2) from None

    return trial


def counts(outcome: Outcome) -> str:
    """Return the numbers of what was read."""
    lines = re.findall(r"^counts .*|\d+ images \(.*", outcome.output, re.MULTILINE)
    return lines[-1] if lines else "none"


class Attack:
    """The undamaged inputs in a folder, and what reading each of them gives."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.seed = seed
        self.good = {name: folder / name for name in ("feats.h5", "matches.h5")}
        write_bases(folder, seed)
        shutil.copy(folder / "scene" / "feats.h5", folder)
        shutil.copy(folder / "scene" / "matches.h5", folder)
        self.expected: dict[tuple[str, ...], str] = {}

    def run(self, number: int, tally: Tally) -> None:
        """Damage the input of one trial, and use it."""
        rng = random.Random(f"{self.seed}-{number}")
        kind = KINDS[number % len(KINDS)]
        rest = ("--inliers",) * rng.choice((0, 1)) if kind == "database" else ()
        if (kind, *rest) not in self.expected:
            outcome, _ = self._use(kind, rest, lambda _: "")
            self.expected[kind, *rest] = counts(outcome)
            assert outcome.exit_code == 0, outcome.output
        change = rng.choice((damage, craft))
        outcome, what = self._use(kind, rest, lambda path: change(path, rng), rng)
        fault = None
        is_other = counts(outcome) != self.expected[kind, *rest]
        is_other = is_other and kind not in WITHOUT_COUNTS
        if outcome.exit_code == 0 and is_other and "left out" not in outcome.output:
            fault = f"silently other: {counts(outcome)}, not {self.expected[kind, *rest]}"
        elif outcome.exit_code not in (0, 2):
            fault = f"exit code {outcome.exit_code}"
        elif "earlier file" in what:
            fault = "an earlier file was lost"
        tally.add(f"{number} {kind}: {what}", outcome, fault)

    def _use(
        self,
        kind: str,
        rest: tuple[str, ...],
        change: Callable[[Path], str],
        rng: random.Random | None = None,
    ) -> tuple[Outcome, str]:
        with tempfile.TemporaryDirectory(dir=self.folder) as work:
            for name in {kind, "binary"}:
                shutil.copytree(self.folder / name, Path(work) / name)
            source = Path(work) / kind
            files = sorted(path for path in source.rglob("*") if path.is_file())
            what = change(rng.choice(files) if rng else files[0])
            if kind not in IMPORTS:
                return attempt(as_command(lambda: use_model(source))), what
            kept = {name: shutil.copy(path, work) for name, path in self.good.items()}
            images = self.folder / "scene" / "images"
            words = {
                "database": ("colmap", "--database", source / "database.db"),
                "kapture": ("kapture", "--kapture", source),
                "schoenberger": ("schoenberger", "--dataset", source),
                "d2net": ("d2net", "--image_dir", images, "--archives", source),
            }[kind]
            words = "import", *words, "--features", kept["feats.h5"], "--overwrite"
            if kind == "schoenberger":
                (source / "images").symlink_to(images)
            if kind != "d2net":
                words = *words, "--matches", kept["matches.h5"], *rest
            trial = command(*words)
            outcome = attempt(trial)
            for name, path in kept.items():
                if outcome.exit_code != 0 and not _same(Path(path), self.good[name]):
                    what += f"; the earlier file {name} is gone"
            return outcome, what


def _same(path: Path, other: Path) -> bool:
    return path.is_file() and path.read_bytes() == other.read_bytes()


def main(trials: int = 300, seed: int = 0) -> None:
    """Run the trials, and print the line of the table."""
    tally = Tally("COLMAP models, databases and files of other tools", seed)
    with tempfile.TemporaryDirectory() as folder:
        attack = Attack(Path(folder), seed)
        for number in range(trials):
            attack.run(number, tally)
    tally.finish()


if __name__ == "__main__":
    tyro.cli(main)
