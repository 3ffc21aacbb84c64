"""The engine of pairs: values of each pair beside the rows, and pairs on which a method failed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.bootstrap import interval
from benchmarks.matching.__main__ import MatchingOptions, main
from benchmarks.pair_values import read_pair_values
from benchmarks.record import Row, read_run
from featplug.io.store import FeatureReader
from tests.scenes.sequences import write_hpatches

PICKY = '''
import torch
from featplug.base import Matcher, PairMatcher


class Picky(Matcher):
    """Mutual neighbours, but none of an image with one number of keypoints."""

    required_keys = ("descriptors", "image_size")

    def match(self, features0, features1):
        if features1["descriptors"].shape[1] == LEAST:
            raise RuntimeError("no mood for these")
        products = features0["descriptors"].T @ features1["descriptors"]
        best, back = products.argmax(1), products.argmax(0)
        mutual = back[best] == torch.arange(len(best))
        scores = products.gather(1, best[:, None])[:, 0].clamp(0, 1)
        return {
            "matches0": torch.where(mutual, best, -1),
            "matching_scores0": torch.where(mutual, scores, 0.0),
        }
'''


def run(dataset: Path, outputs: Path, *features: str, **options: object) -> dict[str, Row]:
    main(MatchingOptions(dataset, outputs=outputs, feature=features, pictures=False, **options))  # type: ignore[arg-type]
    rows = read_run(outputs).rows
    return {f"{row.feature} {row.part}": row for row in rows if row.protocol == rows[0].protocol}


def test_the_values_of_pairs_have_the_means_of_the_rows(tmp_path: Path) -> None:
    write_hpatches(tmp_path / "data", "i_leuven", "v_wall")
    rows = run(tmp_path / "data", tmp_path / "out", "sift", max_keypoints=200)
    row = rows["sift all"]
    assert row.pair_values == "pairs/sift-mma-d2net-n200.csv"
    assert all(other.pair_values == row.pair_values for other in rows.values())
    values = read_pair_values(tmp_path / "out" / row.pair_values)
    assert len(values.pairs) == 10
    for part in ("all", "illumination", "viewpoint"):
        of_part = values.of_part(part)
        for name, metric in rows[f"sift {part}"].metrics.items():
            if name == "mean_keypoints":
                continue  # of images
            found = interval(name, [of_part.values])
            assert found is not None, name
            assert found.value == pytest.approx(metric["value"], abs=1e-7), name
    # Removed with the folder of a run, and then measured again.
    (tmp_path / "out" / row.pair_values).unlink()
    again = run(tmp_path / "data", tmp_path / "out", "sift", max_keypoints=200)
    assert again["sift all"].metrics == row.metrics
    assert (tmp_path / "out" / row.pair_values).exists()


def test_a_pair_on_which_a_method_fails_counts_as_one_without_matches(tmp_path: Path) -> None:
    write_hpatches(tmp_path / "data", "v_wall")
    good = run(tmp_path / "data", tmp_path / "good", "sift+NN-mutual")
    values = read_pair_values(tmp_path / "good" / str(good["sift+NN-mutual all"].pair_values))
    (feature_file,) = (tmp_path / "good" / "features").glob("*.h5")
    with FeatureReader(feature_file) as reader:
        numbers = [len(reader.keypoints(f"v_wall/{i}.ppm")) for i in range(2, 7)]
    picked = int(np.argmin(numbers))
    assert numbers.count(numbers[picked]) == 1
    methods = tmp_path / "picky.py"
    methods.write_text(PICKY.replace("LEAST", str(numbers[picked])))
    rows = run(tmp_path / "data", tmp_path / "out", f"sift+{methods}:Picky")
    row = next(row for name, row in rows.items() if name.endswith(" all"))
    found = read_pair_values(tmp_path / "out" / str(row.pair_values))
    failed = found.values["failed"] == 1
    assert failed.tolist() == [i == picked for i in range(5)]
    assert found.values["corner_error"][picked] == np.inf
    for name in ("mma_3", "right_matches", "match_score", "mean_matches"):
        assert found.values[name][picked] == 0
        np.testing.assert_allclose(found.values[name][~failed], values.values[name][~failed])
    assert row.metrics["failed_pairs"]["value"] == 1
    assert good["sift+NN-mutual all"].metrics["failed_pairs"]["value"] == 0
    assert "1 pair lacks features or matches and counts as a failure" in str(row.not_comparable)
    # The image of that pair alone is not one without keypoints.
    assert row.metrics["mean_keypoints"]["value"] > max(numbers[picked], 100)
