"""Kills at random instants: no result is lost, and a rerun ends as if there had been none.

``python -m tests.attacks.kills --trials 300 --seed 1``. Reruns of commands, with other options than
the whole run before, get SIGKILL, SIGTERM or SIGINT at a random time, or when their results take
the places of the old ones. What is found then must be readable, of one run, and all that stores had
before; every other trial of a store starts from what the kill before has left.
"""

from __future__ import annotations

import json
import random
import signal
import tempfile
import time
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import tyro

import pipelines.sfm  # imported before the first fork, as all that the commands need
from featplug.cli.stage_commands import extract, match
from featplug.colmap.model_files import read_model
from featplug.io.match_store import MatchReader
from featplug.io.pair_lists import write_pairs
from featplug.io.results import read_results
from featplug.io.store import FeatureReader
from featplug.localization.queries import read_poses
from featplug.stages.pairs import exhaustive
from pipelines.datasets import aachen
from pipelines.run_record import PipelineRecord
from tests.attacks.harness import Outcome, Running, Tally, attempt, command
from tests.scenes.aachen_sets import write_room_set

IMPORTED = (pipelines.sfm, extract, match, aachen)
_ENDS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}
_FEATURES = "feats-featplug-sift.h5"


@dataclass(frozen=True)
class Target:
    """A command that is killed, and the folder that it works in."""

    name: str
    words: Sequence[str | Path]
    changes: Sequence[str]
    """An option that has another value in each rerun."""
    folder: Path
    check: Callable[[Path], None]
    stores: Sequence[Path] = ()
    """Files that every other rerun makes from scratch."""

    def run(self, value: int) -> Callable[[], None]:
        """Return a trial of the command."""
        return command(*self.words, *self.changes, *([str(value)] if self.changes else []))


def _check_stores(folder: Path) -> None:
    if not (folder / _FEATURES).exists():
        return
    with FeatureReader(folder / _FEATURES) as features:
        names = features.names()
        for name in names:
            features.read(name)
    for path in folder.glob("*_matches-*.h5"):
        with MatchReader(path) as matches:
            for pair in matches.pairs(names)[0]:
                matches.read(*pair)


def _record(folder: Path) -> PipelineRecord:
    record = read_results(folder / "results.json", PipelineRecord)
    config = tomllib.loads((folder / "config.toml").read_text())
    assert config["seed"] == record["options"]["seed"], "config.toml is of another run"
    return record


def check_sfm(folder: Path) -> None:
    """Check that the model, its points and its record are of one run."""
    _check_stores(folder)
    metrics = _record(folder)["metrics"]
    model = read_model(folder / "model")
    assert model.num_points3D() == metrics["sparse_points"]["value"], "model of another run"
    assert model.compute_num_observations() == metrics["observations"]["value"], "observations"
    header = (folder / "points.ply").read_bytes()[:300].decode("latin-1")
    assert f"element vertex {model.num_points3D()}\n" in header, "points.ply of another run"


def check_localize(folder: Path) -> None:
    """Check that the poses, the model and the record are of one run."""
    _check_stores(folder)
    record = _record(folder)
    metrics = record["metrics"]
    poses = read_poses(folder / "submission.txt")
    logs = json.loads((folder / "logs.json").read_text())["loc"]
    localized = logs.keys() - record["data"]["not_localized"].keys()
    assert localized <= poses.keys(), "submission of another run"
    model = read_model(folder / "sfm" / "model")
    assert model.num_points3D() == metrics["sparse_points"]["value"], "model of another run"
    assert sum(entry["cam_from_world"] is not None for entry in logs.values()) == len(poses)
    assert (folder / "localization.png").read_bytes()[-8:-4] == b"IEND", "the picture is cut"


def targets(work: Path) -> list[Target]:
    """Make the scene, and return all commands."""
    assert attempt(lambda: write_room_set(work)).exit_code == 0  # which starts threads
    scene = work / "aachen_v1.1"
    images = scene / "images_upright"
    names = sorted(path.relative_to(images).as_posix() for path in images.rglob("*.png"))
    database = [name for name in names if name.startswith("db/")]
    write_pairs(work / "pairs.txt", exhaustive(database))
    (work / "list.txt").write_text("\n".join(database))
    few = ("--max-keypoints", "500", "--quiet")
    sfm, town, extracted, stages = (work / name for name in ("sfm", "town", "feats", "stages"))
    extracting = ("extract", "--image-dir", images, *few, "--export-dir")
    assert attempt(command(*extracting, stages)).exit_code == 0
    matching = ("match", "--pairs", work / "pairs.txt", "--features", stages / _FEATURES)
    matched = stages / "feats-featplug-sift_matches-featplug-NN-ratio_pairs.h5"
    return [
        Target(
            "sfm",
            ("sfm", "--images", images / "db", "--outputs", sfm, *few),
            ["--seed"],
            sfm,
            check_sfm,
        ),
        Target(
            "localize",
            ("aachen", "--dataset", scene, "--outputs", town, *few),
            ["--seed"],
            town,
            check_localize,
        ),
        Target(
            "extract",
            (*extracting, extracted),
            [],
            extracted,
            _check_stores,
            [extracted / _FEATURES],
        ),
        Target(
            "match",
            (*matching, "--conf", "NN-ratio", "--matches", matched, "--quiet"),
            [],
            stages,
            _check_stores,
            [matched],
        ),
    ]


def contents(target: Target) -> dict[Any, Any]:
    """Return what does not differ between two runs of the same options."""
    if not target.stores:  # COLMAP's threads add in any order
        metrics = _record(target.folder)["metrics"]
        return {name: float(f"{entry['value']:.2g}") for name, entry in metrics.items()}
    if not target.stores[0].exists():
        return {}
    with FeatureReader(target.folder / _FEATURES) as features:
        arrays = {name: features.read(name) for name in features.names()}
    found = {n: {k: v.tobytes() for k, v in a.items()} for n, a in arrays.items()}
    if target.name == "match":
        with MatchReader(target.stores[0]) as matches:
            pairs, _ = matches.pairs(found)
            return {pair: [a.tobytes() for a in matches.read(*pair)] for pair in sorted(pairs)}
    return found


def missing(before: dict[Any, Any], after: dict[Any, Any]) -> list[Any]:
    """List the images or pairs of a store that are lost or changed."""
    return [key for key, arrays in before.items() if after.get(key) != arrays]


def kill(
    target: Target, seconds: float, value: int, rng: random.Random
) -> tuple[Outcome, dict[Any, Any]]:
    """Kill a rerun at a random time, or just when its results are about to change places.

    Returns:
        The outcome, and what the stores had before.
    """
    before: dict[Any, Any] = {}
    outcome: Outcome | None = None
    while outcome is None or outcome.sent is None:  # it has ended before
        number = rng.choice(list(_ENDS))
        if rng.random() < 0.5:
            for path in target.stores:
                path.unlink(missing_ok=True)
        before = contents(target) if target.stores else {}
        running = Running(target.run(value))
        made = target.folder / "unfinished" / "results.json"
        if not target.stores and rng.random() < 0.3:
            while not running.has_ended() and not made.exists():
                time.sleep(0.0005)
            time.sleep(rng.uniform(0, 0.05))
        else:
            time.sleep(rng.uniform(0.02, seconds))
        running.send(number)
        outcome = running.wait()
        if outcome.sent is None and outcome.exit_code:
            break
    return outcome, before


def expected(outcome: Outcome) -> str | None:
    """Return what is wrong with the end of a killed process."""
    if outcome.sent is None:
        return "failed before the signal"
    sent = signal.Signals(outcome.sent)
    # Before the command has begun and after its end, the system ends the process without a word.
    if outcome.exit_code in (0, -sent):
        return None
    if outcome.exit_code != _ENDS[sent]:
        return f"exit code of {sent.name}"
    return None if outcome.message.endswith("to resume.") else "another last line"


def main(trials: int = 300, seed: int = 1) -> None:
    """Kill commands, and check what they leave."""
    tally = Tally("kills at random instants", seed)
    with tempfile.TemporaryDirectory() as temporary:
        commands = targets(Path(temporary))
        whole, seconds = {}, {}
        for target in commands:
            first = attempt(target.run(0))
            assert first.exit_code == 0, first.output
            whole[target.name] = contents(target)
            for path in target.stores:
                path.unlink()
            seconds[target.name] = attempt(target.run(1)).seconds
        for trial in range(trials):
            rng = random.Random(f"{seed}-{trial}")
            target = commands[trial % len(commands)]
            outcome, before = kill(target, seconds[target.name], trial, rng)
            name = f"{trial} {target.name}"
            fault = expected(outcome)
            checked = attempt(partial(target.check, target.folder))
            if checked.exit_code:
                fault = f"lost: {checked.message}"
            elif before and (lost := missing(before, contents(target))):
                fault = f"lost: {len(lost)} of {len(before)} that were stored, as {lost[0]}"
            elif rng.random() < (0.5 if target.stores else 0.2):
                again = attempt(target.run(0))
                same = again.exit_code == 0 and contents(target) == whole[target.name]
                fault = fault if same else f"rerun ended otherwise: {again}"
            tally.add(name, outcome, fault)
    tally.finish()


if __name__ == "__main__":
    tyro.cli(main)
