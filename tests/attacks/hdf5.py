"""Damaged and crafted HDF5 files of features, matches and global descriptors.

Each is read by every command that takes such a file. Besides the harness's faults, an output that
names neither the file nor an image or pair where something was left out is a fault, and so are
other matches than the undamaged file gives, for files with checksums that were damaged.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from itertools import combinations
from pathlib import Path

import h5py
import numpy as np
import tyro

import pipelines.sfm  # noqa: F401
from featplug.io.artifact import Provenance
from featplug.io.match_store import MatchReader
from featplug.io.pair_lists import write_pairs
from featplug.io.store import FeatureReader, FeatureWriter, GlobalDescriptorWriter
from featplug.stages.match import match_features
from tests.attacks.crafted_hdf5 import craft
from tests.attacks.harness import Outcome, Tally, attempt, command, damage
from tests.scenes.synthetic import SyntheticScene, write_synthetic_scene

KINDS = ("features", "features", "theirs", "matches", "matches", "global")
"""Files that are damaged; ``theirs`` are features without checksums, as hloc writes them."""


def write_bases(folder: Path, seed: int) -> SyntheticScene:
    """Write an undamaged file of each kind."""
    scene = write_synthetic_scene(folder / "scene", num_images=4)
    rng = np.random.default_rng(seed)
    with (
        FeatureReader(scene.features) as reader,
        MatchReader(scene.matches) as true,
        FeatureWriter(folder / "features.h5", Provenance("features", {})) as writer,
        GlobalDescriptorWriter(folder / "global.h5", Provenance("global descriptors", {})) as whole,
        h5py.File(folder / "theirs.h5", "w") as theirs,
    ):
        first = scene.names[0]
        world = rng.standard_normal((32, len(reader.keypoints(first))))
        for name in scene.names:
            arrays = reader.read(name, ["keypoints", "scores"])
            descriptors = rng.standard_normal((32, len(arrays["scores"])))
            same = np.arange(len(world.T))[:, None].repeat(2, axis=1)
            seen, here = (same if name == first else true.read(first, name)[0]).T
            descriptors[:, here] = world[:, seen] + 0.1 * descriptors[:, here]
            arrays["descriptors"] = descriptors.astype(np.float16)
            writer.write(name, arrays, reader.image_size(name), 1.0, "")
            whole.write(name, rng.random(8, np.float32), reader.image_size(name), "")
            for key, array in {**arrays, "image_size": reader.image_size(name)}.items():
                theirs[f"{name}/{key}"] = array
    write_pairs(folder / "pairs.txt", combinations(scene.names, 2))
    shutil.copy(scene.matches, folder / "matches.h5")
    match_features("NN-mutual", folder / "pairs.txt", folder / "features.h5",
                   matches=folder / "expected.h5")  # fmt: skip
    return scene


def choose_command(
    kind: str, path: Path, folder: Path, scene: SyntheticScene, rng: random.Random
) -> tuple[str | Path, ...]:
    out, pairs = path.parent / "out", folder / "pairs.txt"
    good = folder / "features.h5"
    matching = "match", "--pairs", pairs, "--conf", "NN-mutual", "--features"
    if kind == "global":
        return ("pairs", "retrieval", "--descriptors", path, "--output", out, "--num-matched", "2")
    if kind == "matches":
        sfm = "sfm", "--images", scene.images, "--features", scene.features, "--pairs", pairs
        database = "export", "colmap", "--database", out / "database.db", "--no-verify"
        return rng.choice((
            (*sfm, "--matches", path, "--outputs", out),
            (*database, "--features", good, "--matches", path, "--image-dir", scene.images),
            ("export", "schoenberger", "--features", good, "--matches", path, "--output", out),
            ("export", "kapture", "--features", good, "--matches", path, "--output", out),
            (*matching, good, "--matches", path),
        ))  # fmt: skip
    exports = ("kapture", "schoenberger", "d2net")
    return rng.choice((
        (*matching, path, "--matches", out / "matches.h5"),
        (*matching, path, "--matches", out / "matches.h5"),
        (*matching, good, "--features-ref", path, "--matches", out / "matches.h5"),
        ("export", rng.choice(exports), "--features", path, "--output", out),
        ("retrieve", "--features", path, "--export-dir", out),
        ("pairs", "exhaustive", "--features", path, "--output", out / "pairs.txt"),
        ("extract", "--image-dir", scene.images, "--feature-path", path),
        ("sfm", "--images", scene.images, "--features", path, "--matcher", "NN-mutual",
         "--outputs", out),
    ))  # fmt: skip


def silent_change(
    words: tuple[str | Path, ...], outcome: Outcome, folder: Path, path: Path
) -> str | None:
    """Return how a run that says nothing went wrong, for files that have checksums."""
    found = path.parent / "out" / "matches.h5"
    if outcome.exit_code or words[0] != "match" or "theirs" in path.name or not found.exists():
        return None
    with MatchReader(found) as ours, MatchReader(folder / "expected.h5") as expected:
        for first, group in expected.file.items():
            for second in group:
                pair = first, second
                if pair not in ours and "skipped:" not in outcome.output:
                    return f"{pair} is missing"
                if pair not in ours:
                    continue
                if not np.array_equal(ours.read(*pair)[0], expected.read(*pair)[0]):
                    return f"{pair} has other matches"
    return None


def main(trials: int = 500, seed: int = 0, only: int | None = None) -> None:
    """Run the trials."""
    tally = Tally("HDF5 files", seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        scene = write_bases(folder, seed)
        for number in range(trials) if only is None else [only]:
            rng = random.Random(f"{seed} {number}")
            kind = rng.choice(KINDS)
            path = folder / "trial" / f"{kind}.h5"
            path.parent.mkdir()
            shutil.copy(folder / path.name, path)
            is_crafted = rng.random() < 0.5
            how = craft(path, kind, rng) if is_crafted else damage(path, rng)
            words = choose_command(kind, path, folder, scene, rng)
            outcome = attempt(command(*words))
            fault = None if is_crafted else silent_change(words, outcome, folder, path)
            if outcome.exit_code == 2 and "h5" not in outcome.message:
                fault = "a message without the file"
            tally.add(f"{number}: {kind}, {how}; {' '.join(map(str, words[:2]))}", outcome, fault)
            shutil.rmtree(path.parent)
    tally.finish()


if __name__ == "__main__":
    tyro.cli(main)
