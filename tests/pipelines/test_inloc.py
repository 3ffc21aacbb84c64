"""Photographs localized in scans, by the command and by the function."""

from __future__ import annotations

import dataclasses
import json
import pickle
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

import pipelines.references
import pipelines.run
from featplug.io.artifact import Provenance
from featplug.io.match_store import MatchReader, MatchWriter
from featplug.io.pair_lists import read_pairs, write_pairs
from featplug.io.store import FeatureReader
from featplug.localization.log import LocalizationLog
from featplug.localization.queries import read_poses
from featplug.metrics.poses import absolute_pose_errors, localization_recall
from pipelines.datasets.inloc import InLoc, InLocOptions
from pipelines.localize import localize
from pipelines.run_options import FeatureOptions
from tests.conftest import REPOSITORY
from tests.pipelines.localization_contract import LocalizationContract
from tests.scenes.redkitchen import Kitchen, write_kitchen
from tests.scenes.scanned_room import (
    FOCAL,
    HEIGHT,
    WIDTH,
    ScannedRoom,
    picture,
    surface,
    write_alignment,
    write_image,
    write_query_list,
    write_scanned_room,
)


@pytest.fixture
def room(scanned_room: ScannedRoom, tmp_path: Path) -> ScannedRoom:
    """One to damage."""
    shutil.copytree(scanned_room.folder, tmp_path / "inloc")
    return dataclasses.replace(scanned_room, folder=tmp_path / "inloc")


def options_for(room: ScannedRoom, outputs: Path, **changes: Any) -> InLocOptions:
    options = InLocOptions(
        room.folder,
        extraction=FeatureOptions(features=room.features),
        matches=room.matches,
        pairs=room.pairs,
        outputs=outputs,
    )
    return dataclasses.replace(options, **changes)


def values(results: dict[str, Any]) -> dict[str, float]:
    return {name: entry["value"] for name, entry in results["metrics"].items()}


class TestInLoc(LocalizationContract):
    @pytest.fixture
    def options(self, scanned_room: ScannedRoom, tmp_path: Path) -> InLocOptions:
        return options_for(scanned_room, tmp_path / "out")


def test_exact_matches_give_exact_poses(scanned_room: ScannedRoom, tmp_path: Path) -> None:
    """Without half a pixel at the queries or the scans, these would be 0.2° and 1 cm off."""
    results = localize(options_for(scanned_room, tmp_path))
    truth = read_poses(scanned_room.folder / "ground_truth.txt")
    found = read_poses(tmp_path / "submission.txt")
    by_name = {name.rsplit("/", 1)[-1]: pose for name, pose in truth.items()}
    errors = absolute_pose_errors(found, by_name)
    assert errors.position.max() < 5e-4
    assert errors.rotation.max() < 0.005
    figures = values(results)
    assert figures["recall_0.25m_10deg"] == figures["recall_1m_10deg"] == 100
    assert figures["localized_queries"] == figures["queries"] == 4
    assert figures["median_position_error"] < 5e-4
    assert set(results["stages"]) == {"extract", "pairs", "scan", "localize"}


def test_the_logs_tell_where_the_inliers_are(scanned_room: ScannedRoom, tmp_path: Path) -> None:
    localize(options_for(scanned_room, tmp_path, hloc_logs=True))
    logs = json.loads((tmp_path / "logs.json").read_text())
    with (tmp_path / "submission.txt_logs.pkl").open("rb") as file:
        hloc = pickle.load(file)
    assert set(hloc) == {"features", "matches", "retrieval", "loc"}
    assert list(hloc["loc"]) == list(logs["loc"]) == scanned_room.queries
    for name, entry in hloc["loc"].items():
        assert set(entry) == {
            "db",
            "PnP_ret",
            "keypoints_query",
            "keypoints_db",
            "3d_points",
            "indices_db",
            "num_matches",
        }
        (ours,) = logs["loc"][name]["attempts"]
        assert ours["db"] == entry["db"] == scanned_room.database
        inliers = np.array(entry["PnP_ret"]["inlier_mask"])
        counts = [int(np.sum(entry["indices_db"][inliers] == i)) for i in range(6)]
        assert counts == ours["num_inliers_db"]
        assert sum(counts) == ours["num_inliers"] == entry["PnP_ret"]["num_inliers"]
        assert entry["num_matches"] == sum(ours["num_matches_db"]) >= ours["num_matches"]
        assert ours["num_matches"] == len(entry["3d_points"])
        pose = entry["PnP_ret"]["cam_from_world"].matrix()
        np.testing.assert_allclose(logs["loc"][name]["cam_from_world"], pose, atol=1e-12)
        # What hloc logs of a match: where it is in both images, and its point.
        camera = np.array(entry["PnP_ret"]["cfg"]["params"])
        seen = entry["3d_points"][inliers] @ pose[:, :3].T + pose[:, 3]
        reprojected = camera[0] * seen[:, :2] / seen[:, 2:] + camera[1:] - 0.5
        distances = np.linalg.norm(reprojected - entry["keypoints_query"][inliers], axis=1)
        assert np.median(distances) < 0.01
        assert distances.max() < 1  # beside a hole the nearest pixel's point counts


@pytest.fixture(scope="module")
def two_rooms(tmp_path_factory: pytest.TempPathFactory) -> ScannedRoom:
    """A room whose first scan is of another room of its form 20 m away, which has most matches."""
    room = write_scanned_room(tmp_path_factory.mktemp("rooms") / "inloc", 2, 3, wallpaper=0)
    elsewhere = np.eye(4)
    elsewhere[0, 3] = 20
    for name in room.database[:2]:
        write_image(room.folder / name, picture(surface(room.poses[name], FOCAL), wallpaper=1))
    alignment = InLoc(room.folder).alignment(room.database[0])
    write_alignment(room.folder, room.database[0], elsewhere @ alignment)
    with MatchReader(room.matches) as reader, FeatureReader(room.features) as features:
        sizes = {name: len(features.keypoints(name)) for name in features.names()}
        matches = {pair: reader.read(*pair)[0] for pair in read_pairs(room.pairs)}
    with MatchWriter(room.matches, Provenance("matches", {}), overwrite=True) as writer:
        for (query, name), pair in matches.items():
            kept = pair if name in room.database[:2] else pair[::3]
            matches0 = np.full(sizes[query], -1)
            matches0[kept[:, 0]] = kept[:, 1]
            writer.write(query, name, matches0, np.ones(sizes[query]), sizes[name])
    return room


def test_verified_poses_are_in_the_room_that_the_query_shows(
    two_rooms: ScannedRoom, tmp_path: Path
) -> None:
    """By the number of matches alone, all queries are in the other room."""
    plain = localize(options_for(two_rooms, tmp_path / "plain"))
    assert values(plain)["recall_1m_10deg"] == 0
    results = localize(
        options_for(two_rooms, tmp_path / "dense", pose_verification="dense", num_workers=2)
    )
    assert results["options"]["pose_verification"] == "dense"
    assert values(results)["recall_0.25m_10deg"] == 100
    assert values(results)["median_position_error"] < 5e-4
    log = json.loads((tmp_path / "dense" / "logs.json").read_text())["loc"]
    assert list(log) == two_rooms.queries
    for entry in log.values():
        compared = entry["pose_verification"]
        joint = [each["image"] for each in compared if each["is_joint"]]
        assert set(joint) == {each["image"] for each in compared}
        assert len(joint) == len(set(joint))
        rendered = [each for each in compared if each["distance"] is not None]
        nearest = min(rendered, key=lambda each: each["distance"])
        assert nearest["image"] in two_rooms.database[2:]
        of_other_room = [c["distance"] for c in rendered if c["image"] in two_rooms.database[:2]]
        assert nearest["distance"] < 0.6 * min(of_other_room)


def test_a_scan_and_a_query_that_cannot_be_compared_keep_the_pose(
    two_rooms: ScannedRoom, tmp_path: Path
) -> None:
    """The others are verified, and the log says why these are not."""
    room = dataclasses.replace(two_rooms, folder=tmp_path / "inloc")
    shutil.copytree(two_rooms.folder, room.folder)
    damaged, small = room.folder / room.queries[0], room.folder / room.database[-1]
    damaged.write_bytes(damaged.read_bytes()[:-2500])
    with Image.open(small) as image:
        image.resize((80, 60)).save(small)
    options = options_for(room, tmp_path / "out", pose_verification="dense")
    plain = localize(dataclasses.replace(options, pose_verification="none"))
    unverified = read_poses(tmp_path / "out" / "submission.txt")
    results = localize(options)
    assert values(results)["localized_queries"] == values(plain)["localized_queries"] == 3
    log = json.loads((tmp_path / "out" / "logs.json").read_text())["loc"]
    first, *others = room.queries
    np.testing.assert_allclose(
        log[first]["cam_from_world"], unverified[Path(first).name], atol=1e-12
    )
    assert {str(damaged) in each["problem"] for each in log[first]["pose_verification"]} == {True}
    for name in others:
        for each in log[name]["pose_verification"]:
            if each["image"] == room.database[-1]:
                assert each["distance"] is None
                assert str(small) in each["problem"]
            else:
                assert ("problem" in each) == (each["distance"] is None)
        assert any(each["distance"] is not None for each in log[name]["pose_verification"])


def test_verification_reads_one_scan_at_a_time(
    two_rooms: ScannedRoom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the number of workers, since a scan of InLoc takes much memory."""
    options = options_for(two_rooms, tmp_path / "out", num_workers=3)
    localize(options)  # leaves the points of keypoints
    read_scan, reading, most = InLoc.read_scan, [0], [0]

    def read(self: InLoc, path: Path) -> np.ndarray:
        reading[0] += 1
        most[0] = max(most[0], reading[0])
        time.sleep(0.02)
        scan = read_scan(self, path)
        reading[0] -= 1
        return scan

    monkeypatch.setattr(InLoc, "read_scan", read)
    localize(dataclasses.replace(options, pose_verification="dense"))
    assert most == [1]


def test_each_scan_is_read_once(
    scanned_room: ScannedRoom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = []
    read_scan = InLoc.read_scan
    monkeypatch.setattr(InLoc, "read_scan", lambda i, p: (reads.append(p), read_scan(i, p))[1])
    first = localize(options_for(scanned_room, tmp_path))
    assert sorted(reads) == sorted(
        scanned_room.folder / f"{name}.mat" for name in scanned_room.database
    )
    second = localize(options_for(scanned_room, tmp_path))
    assert len(reads) == 6
    assert second["reused"]["scan"] == 6
    assert second["metrics"] == first["metrics"]


def test_scans_without_enough_matches_are_not_read(room: ScannedRoom, tmp_path: Path) -> None:
    for name in room.database[2:]:
        (room.folder / f"{name}.mat").unlink()
    write_pairs(room.pairs, [(query, name) for query in room.queries for name in room.database[:2]])
    results = localize(options_for(room, tmp_path / "out"))
    assert values(results)["scans_used"] == 2
    assert results["data"]["skipped"] == {}
    with pytest.raises(ValueError, match=r"none of its 2 database images has 9999 matches"):
        localize(options_for(room, tmp_path / "out", skip_matches=9999))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "stage"),
    [
        (pipelines.references, "sample_scans"),
        (pipelines.references, "ScanLocalizer"),
        (LocalizationLog, "write_submissions"),
    ],
)
def test_a_run_stopped_at_any_stage_goes_on(
    scanned_room: ScannedRoom,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: object,
    stage: str,
) -> None:
    options = options_for(scanned_room, tmp_path / "out")
    expected = localize(dataclasses.replace(options, outputs=tmp_path / "whole"))
    localize(dataclasses.replace(options, min_inliers=5))  # an earlier run, whose results stay
    before = {p: p.read_bytes() for p in (tmp_path / "out").iterdir() if p.suffix != ".h5"}

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, stage, stop)
        with pytest.raises(KeyboardInterrupt):
            localize(options)
    assert {path: path.read_bytes() for path in before} == before
    results = localize(options)
    assert results["metrics"] == expected["metrics"]
    folders = (tmp_path / "out", tmp_path / "whole")
    ours, others = ((folder / "submission.txt").read_bytes() for folder in folders)
    assert ours == others
    ours, others = (json.loads((folder / "logs.json").read_text()) for folder in folders)
    assert ours["loc"] == others["loc"]


def _pairs_with(room: ScannedRoom, database: str, folder: Path) -> Path:
    """Write a list that pairs each query with one database image."""
    path = folder / "some-pairs.txt"
    write_pairs(path, [(query, database) for query in room.queries])
    return path


def test_bad_scans_and_alignments_are_told_and_the_others_used(
    room: ScannedRoom, tmp_path: Path
) -> None:
    database, folder = room.database, room.folder
    good_at_first = folder / f"{database[2]}.mat"
    localize(options_for(room, tmp_path / "out", pairs=_pairs_with(room, database[2], tmp_path)))
    (folder / f"{database[0]}.mat").unlink()
    savemat(folder / f"{database[1]}.mat", {"XYZcut": np.full((HEIGHT, WIDTH, 3), np.nan)})
    good_at_first.write_bytes(good_at_first.read_bytes()[:-1000])
    (folder / "database/alignments/DUC1/transformations/DUC_trans_026.txt").write_text("nothing")
    results = localize(options_for(room, tmp_path / "out"))
    reasons = {
        database[0]: "There is no scan",
        database[1]: "has a point at no keypoint",
        database[2]: "is damaged or only half downloaded",
        database[4]: "holds no alignment",
        database[5]: "holds no alignment",
    }
    assert set(results["data"]["skipped"]) == set(reasons)
    for name, reason in reasons.items():
        assert reason in results["data"]["skipped"][name]
    assert values(results)["scans_used"] == 1
    assert values(results)["recall_0.25m_10deg"] == 100
    logs = json.loads((tmp_path / "out" / "logs.json").read_text())["loc"]
    for entry in logs.values():
        assert entry["attempts"][0]["num_matches_db"][2] == 0


def test_queries_that_fail_are_told_and_count(room: ScannedRoom, tmp_path: Path) -> None:
    no_pair, few, other_size, good = room.queries
    pairs = [pair for pair in read_pairs(room.pairs) if pair[0] != no_pair]
    write_pairs(room.pairs, pairs)
    matches = tmp_path / "few.h5"
    with (
        MatchReader(room.matches) as reader,
        FeatureReader(room.features) as features,
        MatchWriter(matches, Provenance("matches", {})) as writer,
    ):
        for query, name in pairs:
            found = reader.read(query, name)[0]
            found = found[: 0 if name != room.database[0] else 3] if query == few else found
            matches0 = np.full(len(features.keypoints(query)), -1)
            matches0[found[:, 0]] = found[:, 1]
            writer.write(query, name, matches0, np.ones(len(matches0)), 5000)
    query_list = tmp_path / "queries.txt"
    write_query_list(room, query_list)
    lines = query_list.read_text().splitlines()
    lines[2] = lines[2].replace(f" {WIDTH} ", f" {WIDTH + 2} ")
    lines.append(f"query/iphone7/IMG_9999.JPG SIMPLE_PINHOLE {WIDTH} {HEIGHT} 124 80 60")
    query_list.write_text("\n".join(lines))
    results = localize(
        options_for(room, tmp_path / "out", matches=matches, queries=query_list, skip_matches=1)
    )
    failed = results["data"]["not_localized"]
    reasons = {
        no_pair: "it is paired with no database image that has features",
        few: "only 3 of its 3 matches have a point in the scans",
        other_size: f"{WIDTH}×{HEIGHT} pixels, its camera in the lists {WIDTH + 2}×{HEIGHT}",
        "query/iphone7/IMG_9999.JPG": "There is no image",
    }
    assert set(failed) == set(reasons)
    for name, reason in reasons.items():
        assert reason in failed[name]
    figures = values(results)
    assert (figures["queries"], figures["localized_queries"]) == (5, 1)
    assert figures["recall_1m_10deg"] == 25  # of the four whose true pose is known
    assert "median_position_error" not in figures
    assert list(read_poses(tmp_path / "out" / "submission.txt")) == [good.rsplit("/", 1)[-1]]


def test_matches_of_other_features_are_refused(room: ScannedRoom, tmp_path: Path) -> None:
    pairs = read_pairs(room.pairs)[:1]
    write_pairs(room.pairs, pairs)
    for matches0 in (np.arange(5000), np.full(100, 5000)):
        matches = tmp_path / f"{len(matches0)}.h5"
        with MatchWriter(matches, Provenance("matches", {})) as writer:
            writer.write(*pairs[0], matches0, np.ones(len(matches0)), 5001)
        with pytest.raises(
            ValueError, match=r"0.h5: the matches .* are of other features than .*; match again"
        ):
            localize(options_for(room, tmp_path / "out", matches=matches))


def test_random_matches_give_no_pose(room: ScannedRoom, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    matches = tmp_path / "random.h5"
    pairs = [(room.queries[0], name) for name in room.database[:2]]
    write_pairs(room.pairs, pairs)
    with (
        FeatureReader(room.features) as features,
        MatchWriter(matches, Provenance("matches", {})) as writer,
    ):
        for query, name in pairs:
            num0, num1 = len(features.keypoints(query)), len(features.keypoints(name))
            writer.write(query, name, rng.integers(0, num1, num0), np.ones(num0), num1)
    with pytest.raises(ValueError, match=r"None of the 4 queries .* no pose fits 50 of its \d+"):
        localize(options_for(room, tmp_path / "out", matches=matches, min_inliers=50))
    assert not (tmp_path / "out" / "results.json").exists()


@pytest.fixture(scope="module")
def kitchen(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Kitchen:
    folder = tmp_path_factory.mktemp("kitchen") / "inloc"
    return write_kitchen(shared / "data" / "redkitchen", folder, range(15))


@pytest.mark.slow
def test_the_kitchen_is_localized_within_the_reference_poses_noise(
    kitchen: Kitchen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = InLocOptions(
        kitchen.folder,
        extraction=FeatureOptions(max_keypoints=2000),
        num_loc=5,
        outputs=tmp_path / "out",
        num_workers=1,
    )

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pipelines.run, "match_features", stop)
        with pytest.raises(KeyboardInterrupt):
            localize(options)
    results = localize(options)
    assert results["reused"] == {"extract": 15, "match": 0, "scan": 0}
    assert len(read_pairs(tmp_path / "out" / "pairs-query.txt")) == 15
    truth = read_poses(kitchen.folder / "ground_truth.txt")
    found = read_poses(tmp_path / "out" / "submission.txt")
    by_name = {name.rsplit("/", 1)[-1]: pose for name, pose in truth.items()}
    (recall,) = localization_recall(absolute_pose_errors(found, by_name), [(0.1, 5)])
    assert recall >= 0.9
    assert values(results)["recall_0.25m_10deg"] >= 90


@pytest.mark.slow
def test_the_command(room: ScannedRoom, tmp_path: Path) -> None:
    run = subprocess.run(
        [
            *(sys.executable, "-m", "pipelines.inloc", "--dataset", room.folder),
            *("--features", room.features, "--matches", room.matches, "--pairs", room.pairs),
            *("--outputs", tmp_path / "out", "--num_workers", "1"),
        ],
        env={"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert re.search(r"recall 0.25m 10deg +100 %", run.stdout)
    last = run.stdout.splitlines()[-1]
    for name in ("submission.txt", "results.json", "logs.json", "localization.png"):
        assert name in last
    assert last.endswith(str(tmp_path / "out" / "report.html"))
    assert "scan: 100%" in run.stderr


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"queries": Path("gone.txt")}, "no query list gone.txt"),
        ({"queries": "same"}, "'query/b/IMG_0801.JPG' are both 'IMG_0801.JPG' in a submission"),
    ],
)
def test_a_bad_query_list_is_one_sentence(
    scanned_room: ScannedRoom, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    if changes["queries"] == "same":
        changes = {"queries": tmp_path / "same.txt"}
        camera = f"SIMPLE_PINHOLE {WIDTH} {HEIGHT} 124 80 60"
        names = [scanned_room.queries[0], "query/b/IMG_0801.JPG"]
        changes["queries"].write_text("".join(f"{name} {camera}\n" for name in names))
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        localize(options_for(scanned_room, tmp_path / "out", **changes))
    assert not (tmp_path / "out").exists()


def test_pairs_may_be_turned_around(scanned_room: ScannedRoom, tmp_path: Path) -> None:
    turned = tmp_path / "turned.txt"
    write_pairs(turned, [pair[::-1] for pair in read_pairs(scanned_room.pairs)])
    results = localize(options_for(scanned_room, tmp_path / "out", pairs=turned))
    assert values(results)["localized_queries"] == 4
