"""Single bits of feature and match files that flip: the same matches, or a message, never others.

A flipped feature file is matched again, a flipped match file is read again. A trial is at fault if
it ends with exit code 0 and other matches than before, and skips no image or pair by its name.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from itertools import combinations
from pathlib import Path

import numpy as np
import tyro

import featplug.cli.stage_commands
import featplug.matchers.nearest_neighbor  # noqa: F401
from featplug.io.artifact import Provenance
from featplug.io.match_store import MatchReader
from featplug.io.pair_lists import write_pairs
from featplug.io.store import FeatureReader, FeatureWriter
from featplug.stages.match import match_features
from tests.attacks.harness import Outcome, Tally, attempt, command, flip_bit

NAMES = [f"db/{i}.jpg" for i in range(6)]
MATCHER = "NN-ratio"


def write_features(path: Path, seed: int) -> None:
    """Write features of points that all images see, in another order in each."""
    rng = np.random.default_rng(seed)
    world = rng.standard_normal((64, 80))
    with FeatureWriter(path, Provenance("features", {"seed": seed})) as writer:
        for name in NAMES:
            order = rng.permutation(world.shape[1])
            arrays = {
                "keypoints": rng.random((len(order), 2), np.float32) * 600,
                "scores": rng.random(len(order), np.float32),
                "descriptors": (world[:, order] + 0.2 * rng.standard_normal(world.shape)).astype(
                    np.float16
                ),
            }
            writer.write(name, arrays, (640, 480), 1.0, "")


def read_all(features: Path, matches: Path) -> dict[str, np.ndarray]:
    """Read what mapping reads of both files."""
    with FeatureReader(features) as feature_reader, MatchReader(matches) as match_reader:
        names = feature_reader.names()
        found = {name: feature_reader.keypoints(name) for name in names}
        found |= {f"σ {name}": np.array(feature_reader.uncertainty(name)) for name in names}
        found |= {f"size {name}": np.array(feature_reader.image_size(name)) for name in names}
        pairs, others = match_reader.pairs(NAMES)
        if others:
            raise SystemExit(f"{matches} has pairs of other images: {others}")
        for pair in pairs:
            found[" ".join(pair)] = np.column_stack(match_reader.read(*pair))
        return found


def read_again(features: Path, matches: Path, expected: dict[str, np.ndarray]) -> None:
    """Read both files, and exit with 2 if that fails, with 3 if they hold something else."""
    try:
        found = read_all(features, matches)
    except ValueError as error:
        print(error)
        raise SystemExit(2) from error
    if found.keys() != expected.keys():
        print(f"other names: {found.keys() ^ expected.keys()}")
        raise SystemExit(3)
    if changed := [key for key in found if not np.array_equal(found[key], expected[key])]:
        print(f"other values: {changed}")
        raise SystemExit(3)


def silent_change(outcome: Outcome, features: Path, matches: Path, whole: Path) -> str | None:
    """Return how the matches of a flipped feature file differ from those of the whole one."""
    if outcome.exit_code:
        return None
    expected = read_all(features, whole)
    with MatchReader(matches) as reader:
        for pair in combinations(NAMES, 2):
            if pair not in reader:
                if not any(f"'{name}'" in outcome.output for name in pair):
                    return f"{pair} is missing"
            elif not np.array_equal(np.column_stack(reader.read(*pair)), expected[" ".join(pair)]):
                return f"{pair} has other matches"
    return None


def main(trials: int = 200, seed: int = 0) -> None:
    """Run the trials."""
    tally = Tally("bit flips", seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        features, matches = folder / "features.h5", folder / "matches.h5"
        write_features(features, seed)
        write_pairs(folder / "pairs.txt", combinations(NAMES, 2))
        match_features(MATCHER, folder / "pairs.txt", features, matches=matches)
        expected = read_all(features, matches)
        for number in range(trials):
            rng = random.Random(f"{seed} {number}")
            whole = rng.choice((features, matches))
            flipped, again = folder / f"flipped-{whole.name}", folder / "again.h5"
            shutil.copy(whole, flipped)
            flip_bit(flipped, rng.randrange(8 * flipped.stat().st_size))
            if rng.random() < 0.5:
                files = (flipped, matches) if whole == features else (features, flipped)
                outcome = attempt(lambda files=files: read_again(*files, expected))
                fault = "silently read as something else" if outcome.exit_code == 3 else None
            else:
                # A match file is resumed: what is missing is matched again.
                found = again if whole == features else flipped
                words = "match", "--conf", MATCHER, "--pairs", folder / "pairs.txt", "--features"
                used = flipped if whole == features else features
                outcome = attempt(command(*words, used, "--matches", found))
                fault = None
                if whole == features:
                    fault = silent_change(outcome, features, again, matches)
                elif outcome.exit_code == 0:
                    files = features, flipped
                    outcome = attempt(lambda files=files: read_again(*files, expected))
                    fault = "silently resumed to something else" if outcome.exit_code == 3 else None
            tally.add(f"{number}: {whole.name}", outcome, fault)
            again.unlink(missing_ok=True)
    tally.finish()


if __name__ == "__main__":
    tyro.cli(main)
