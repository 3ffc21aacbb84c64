"""Methods of other people in the benchmark of matching: classes, matchers, files, whole images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from benchmarks.pairs import feature_pairs
from benchmarks.record import Row, Run, read_run
from featplug.io.store import FeatureReader
from tests.benchmarks.matching.test_command import HPATCHES_PROTOCOLS, run_benchmark
from tests.benchmarks.methods_of_others import write_own_methods
from tests.scenes.sequences import write_hpatches, write_oxford, write_wxbs


@pytest.fixture
def methods(tmp_path: Path) -> Path:
    return write_own_methods(tmp_path)


def rows_of(outputs: Path) -> dict[tuple[str, str], Row]:
    rows = read_run(outputs).rows
    return {(row.feature, row.protocol): row for row in rows if row.part == "all"}


def value(row: Row, name: str) -> float:
    return row.metrics[name]["value"]


def test_a_matcher_of_keypoints_is_measured_on_subsets_of_them(
    tmp_path: Path, methods: Path
) -> None:
    """LightGlue crashed in the protocols that match some keypoints."""
    write_hpatches(tmp_path / "data", "i_leuven", "v_wall")
    name = f"sift+{methods}:ByPlace"
    run_benchmark(
        tmp_path / "data", tmp_path, feature=(name,), protocol=HPATCHES_PROTOCOLS, pictures=False
    )
    run = read_run(tmp_path)
    assert not run.problems
    rows = rows_of(tmp_path)
    assert {protocol for _, protocol in rows} == set(HPATCHES_PROTOCOLS)
    assert value(rows[name, "lisrd-480x640"], "precision") > 0.5
    assert value(rows[name, "mtldesc-hpatches"], "match_score") > 0.3
    reason = rows[name, "recall-contextdesc"].not_comparable
    assert "no matches of one way" in str(reason)


def test_a_feature_and_a_matcher_of_a_file_are_measured(tmp_path: Path, methods: Path) -> None:
    write_oxford(tmp_path / "data")
    names = f"{methods}:Grid", f"{methods}:Grid+{methods}:ByPlace", "sift+NN-ratio"
    protocols = "oxford-mma", "oxford-ap"
    run_benchmark(tmp_path / "data", tmp_path, feature=names, protocol=protocols)
    assert not read_run(tmp_path).problems
    rows = rows_of(tmp_path)
    assert set(rows) == {(name, protocol) for name in names for protocol in protocols}
    assert rows[names[2], "oxford-mma"].matcher == "NN-ratio (ratio 0.8)"
    assert str(rows[names[1], "oxford-mma"].matcher).endswith(":ByPlace")
    assert value(rows[names[0], "oxford-mma"], "mean_matches") > 50
    files = sorted(path.name for path in (tmp_path / "features").iterdir())
    assert len(files) == 2  # the same features with either matcher
    pictures = [picture.path for picture in rows[names[1], "oxford-mma"].pictures]
    assert pictures
    assert all((tmp_path / path).is_file() for path in pictures)


def test_matchers_of_images_are_measured_as_far_as_that_is_defined(
    tmp_path: Path, methods: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_hpatches(tmp_path / "data", "i_leuven", "v_wall")
    name = f"{methods}:Still"
    options: Any = {"feature": (name,), "protocol": HPATCHES_PROTOCOLS}
    run_benchmark(tmp_path / "data", tmp_path, **options)
    rows = rows_of(tmp_path)
    assert {protocol for _, protocol in rows} == {*HPATCHES_PROTOCOLS} - {"recall-contextdesc"}
    (problem,) = read_run(tmp_path).problems
    assert problem.subject == f"{name}, recall-contextdesc"
    assert "not defined" in problem.reason
    plane = rows[name, "mma-d2net"]
    assert not {"repeatability", "match_score", "mean_keypoints"} & plane.metrics.keys()
    assert "homography_accuracy_3" in plane.metrics
    light = next(r for r in read_run(tmp_path).rows if r.part == "illumination")
    assert value(light, "mma_1") == 1  # nothing moves but the light
    assert "precision" in rows[name, "lisrd-480x640"].metrics
    table = capsys.readouterr().out.partition("mma-d2net")[2].partition("mma-116")[0]
    assert table.count("not defined") == 3 * 3  # M.S., repeatability and keypoints of three parts


def test_a_matcher_of_images_has_no_average_precision(tmp_path: Path, methods: Path) -> None:
    write_oxford(tmp_path / "data")
    options: Any = {
        "protocol": ("oxford-ap", "oxford-mma"),
        "feature": (f"{methods}:Still", "sift"),
    }
    run_benchmark(tmp_path / "data", tmp_path, **options)
    rows = rows_of(tmp_path)
    assert len(rows) == 3
    assert (f"{methods}:Still", "oxford-ap") not in rows
    write_wxbs(tmp_path / "wxbs")
    run_benchmark(tmp_path / "wxbs", tmp_path / "2", feature=(f"{methods}:Still",))
    assert "recall" in rows_of(tmp_path / "2")[f"{methods}:Still", "wxbs"].metrics


def test_points_of_a_resized_image_are_in_original_pixels(tmp_path: Path, methods: Path) -> None:
    """Points of an image of half the size are pixel centres of it, not of the original."""
    methods.write_text(
        methods.read_text().replace(
            "class Still(PairMatcher):",
            'class Still(PairMatcher):\n    preprocessing = {"resize_max": 160}\n',
        )
    )
    write_oxford(tmp_path / "data", size=(320, 240))
    np.savetxt(tmp_path / "data" / "plane" / "H1to2p", np.eye(3))
    run_benchmark(tmp_path / "data", tmp_path, feature=(f"{methods}:Still",))
    (row,) = rows_of(tmp_path).values()
    assert value(row, "mma_1") == 1
    assert value(row, "mean_matches") == 16 * 12


def without_sizes_and_scores(source: Path, target: Path) -> None:
    """Write a feature file as another tool might."""
    with h5py.File(source) as old, h5py.File(target, "w") as new:

        def copy(name: str, item: object) -> None:
            if isinstance(item, h5py.Dataset) and name.split("/")[-1] not in (
                "image_size",
                "scores",
            ):
                new[name] = item[()]

        old.visititems(copy)


def test_files_of_other_tools_are_measured(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_oxford(data)
    run_benchmark(data, tmp_path / "own", feature=("sift",), max_keypoints=200)
    (features,) = (tmp_path / "own" / "features").iterdir()
    without_sizes_and_scores(features, tmp_path / "other.h5")
    run_benchmark(
        data,
        tmp_path / "given",
        features=(f"sift={features}", f"other+NN-mutual={tmp_path}/other.h5"),
        protocol=("oxford-mma", "oxford-ap"),
        max_keypoints=200,
    )
    assert not read_run(tmp_path / "given").problems
    own = rows_of(tmp_path / "own")["sift", "oxford-mma"].metrics
    rows = rows_of(tmp_path / "given")
    assert rows["sift", "oxford-mma"].metrics == own
    assert rows["other+NN-mutual", "oxford-mma"].metrics == own
    assert ("sift", "oxford-ap") in rows
    assert not (tmp_path / "given" / "features").exists()


def test_the_strongest_keypoints_of_a_file_are_measured(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_oxford(data)
    run_benchmark(data, tmp_path / "all", feature=("sift",), max_keypoints=-1)
    (features,) = (tmp_path / "all" / "features").iterdir()
    run_benchmark(data, tmp_path / "some", max_keypoints=100)
    run_benchmark(data, tmp_path / "given", features=(f"sift={features}",), max_keypoints=100)
    some, given = (rows_of(tmp_path / name)["sift", "oxford-mma"] for name in ("some", "given"))
    assert value(given, "mean_keypoints") == 100
    assert given.metrics == some.metrics


def test_given_matches_are_measured(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_oxford(data)
    run_benchmark(data, tmp_path / "own", max_keypoints=200)
    (features,) = (tmp_path / "own" / "features").iterdir()
    with FeatureReader(features) as reader:
        num = len(reader.keypoints("plane/img1.png"))
        descriptors = [reader.read(f"plane/img{k}.png")["descriptors"] for k in (1, 2)]
    products = np.float64(descriptors[0]).T @ np.float64(descriptors[1])
    there, back = products.argmax(1), products.argmax(0)
    with h5py.File(tmp_path / "matches.h5", "w") as file:
        group = file.create_group("plane-img1.png/plane-img2.png")
        group["matches0"] = np.where(back[there] == np.arange(num), there, -1)
        group["matching_scores0"] = products.max(1)
    run_benchmark(
        data,
        tmp_path / "given",
        features=(f"mine={features}",),
        matches=(f"mine={tmp_path}/matches.h5",),
    )
    row, own = (
        rows_of(tmp_path / "given")["mine", "oxford-mma"],
        rows_of(tmp_path / "own")["sift", "oxford-mma"],
    )
    assert row.metrics == own.metrics
    assert str(row.matcher).endswith("matches.h5")

    # They are of all keypoints of the file.
    with pytest.raises(ValueError, match="Nothing could be measured"):
        run_benchmark(
            data,
            tmp_path / "fewer",
            features=(f"mine={features}",),
            matches=(f"mine={tmp_path}/matches.h5",),
            max_keypoints=100,
        )
    (problem,) = read_run(tmp_path / "fewer").problems
    assert str(features) in problem.reason
    assert "--max-keypoints" in problem.reason

    # Matches of other keypoints, and of other pairs.
    with h5py.File(tmp_path / "matches.h5", "a") as file:
        del file["plane-img1.png/plane-img2.png"]
        file["plane-img1.png/plane-img2.png/matches0"] = np.full(num, 10_000)
    with pytest.raises(ValueError, match="Nothing could be measured"):
        run_benchmark(
            data,
            tmp_path / "wrong",
            features=(f"mine={features}",),
            matches=(f"mine={tmp_path}/matches.h5",),
        )


def test_a_method_that_fails_costs_the_others_nothing(tmp_path: Path, methods: Path) -> None:
    methods.write_text(
        methods.read_text() + "\n\nclass Broken(Grid):\n"
        "    def extract(self, image):\n        raise KeyError('weights')\n"
    )
    write_oxford(tmp_path / "data")
    names = f"{methods}:Broken", "sift+no-such-matcher", f"{methods}:NoSuchClass", "sift"
    run_benchmark(tmp_path / "data", tmp_path, feature=names)
    run: Run = read_run(tmp_path)
    assert {row.feature for row in run.rows} == {"sift"}
    assert {problem.subject for problem in run.problems} == set(names[:3])


def test_each_image_is_read_once_and_each_pair_matched_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    original = feature_pairs.MatchedFeatures._read_image

    def counted(self: feature_pairs.MatchedFeatures, name: str) -> feature_pairs.ImageFeatures:
        read.append(name)
        return original(self, name)

    matched: list[tuple[int, int]] = []
    match = feature_pairs.FeaturePair._match

    def counted_match(self: feature_pairs.FeaturePair, *keep: np.ndarray) -> object:
        matched.append((len(keep[0]), len(keep[1])))
        return match(self, *keep)

    monkeypatch.setattr(feature_pairs.MatchedFeatures, "_read_image", counted)
    monkeypatch.setattr(feature_pairs.FeaturePair, "_match", counted_match)
    write_hpatches(tmp_path / "data", "i_leuven")
    protocols = "mma-d2net", "mma-116"
    run_benchmark(tmp_path / "data", tmp_path, protocol=protocols, pictures=False)
    assert sorted(read) == [f"i_leuven/{k}.ppm" for k in range(1, 7)]
    assert len(matched) == 5


def test_options_of_one_method_are_set(tmp_path: Path) -> None:
    write_oxford(tmp_path / "data")
    options: Any = {"feature": ("sift", "sift+NN-ratio"), "pictures": False}
    run_benchmark(tmp_path / "data", tmp_path / "1", **options)
    run_benchmark(
        tmp_path / "data",
        tmp_path / "2",
        option=(("sift", "contrast_threshold=0.1"),),
        resize_max=160,
        **options,
    )
    first, second = (rows_of(tmp_path / name) for name in ("1", "2"))
    numbers = [value(rows["sift", "oxford-mma"], "mean_keypoints") for rows in (first, second)]
    assert numbers[1] < numbers[0] / 2
    other = "sift+NN-ratio", "oxford-mma"
    assert value(second[other], "mean_keypoints") > numbers[1]  # its own options are the default
    with pytest.raises(ValueError, match=r"--option.*doap"):
        run_benchmark(tmp_path / "data", tmp_path / "3", option=(("doap", "a=1"),))
    with pytest.raises(ValueError, match="Nothing could be measured"):
        run_benchmark(tmp_path / "data", tmp_path / "4", option=(("sift", "no_option=1"),))


def test_what_is_measured_is_not_measured_again(
    tmp_path: Path, methods: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    write_oxford(data)
    names = "sift", f"sift+{methods}:ByPlace", f"{methods}:Still"
    run_benchmark(data, out, feature=names, protocol=("oxford-mma", "oxford-ap"))
    first = read_run(out)
    measured: list[str] = []
    for source in (feature_pairs.MatchedFeatures, feature_pairs.MatchedImages):
        monkeypatch.setattr(source, "read_pair", lambda *_: measured.append("a pair") or 1 / 0)
    run_benchmark(data, out, feature=names, protocol=("oxford-mma",))
    again = read_run(out)
    assert not measured
    kept = [row for row in first.rows if row.protocol == "oxford-mma"]
    assert again.rows == [replace(row, reused=list(row.stages)) for row in kept]
    assert rows_of(out)[names[1], "oxford-mma"].methods[-1]["class"].endswith(":ByPlace")

    # Another source file, truth or number of keypoints is measured.
    methods.write_text(methods.read_text() + "\n# changed\n")
    np.savetxt(data / "plane" / "H1to2p", np.eye(3))
    with pytest.raises(ValueError, match="Nothing could be measured"):
        run_benchmark(data, out, feature=("sift",))
    assert measured
