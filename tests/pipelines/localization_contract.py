"""What every localization pipeline owes its users; one inherited test class for all data sets."""

from __future__ import annotations

import dataclasses
import json
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pipelines.localization_picture
import pipelines.run
from featplug.io.pair_lists import read_pairs, write_pairs
from featplug.stages.retrieve import RetrievalSummary
from pipelines.datasets.protocol import LocalizeOptions
from pipelines.localize import localize, read_task, run, summary

Change = Callable[[LocalizeOptions, Path], dict[str, Any]]
"""From options and a folder for files to the options that are changed."""


def _pairs_of_others(options: LocalizeOptions, folder: Path) -> dict[str, Any]:
    write_pairs(folder / "others.txt", [("a.jpg", "b.jpg")])
    return {"pairs": folder / "others.txt"}


def _poses_of_others(options: LocalizeOptions, folder: Path) -> dict[str, Any]:
    (folder / "poses.txt").write_text("a.jpg 1 0 0 0 0 0 0\n")
    return {"ground_truth": folder / "poses.txt"}


def _extraction(**changes: Any) -> Change:
    return lambda options, _: {"extraction": dataclasses.replace(options.extraction, **changes)}


BAD_REQUESTS: dict[str, Change | dict[str, Any]] = {
    "no dataset nowhere.*--dataset": {"dataset": Path("nowhere")},
    "no pair list gone.txt": {"pairs": Path("gone.txt")},
    "no pose file gone.txt": {"ground_truth": Path("gone.txt")},
    "No pair of .*others.txt has a query": _pairs_of_others,
    "true poses are of none of the queries.*'a.jpg'": _poses_of_others,
    "feature 'shift'": _extraction(feature="shift", features=None),
    "retrieval 'bow'": {"retrieval": "bow"},
    "--num-loc must be above 0": {"num_loc": 0},
    "--max-error must be above 0": {"max_error": float("nan")},
    "--num-workers must be above 0": {"num_workers": -1},
    "--features needs --matcher": lambda options, _: {
        **_extraction(features=Path("feats.h5"))(options, _),
        "matcher": None,
        "matches": None,
    },
    "no file gone.h5": {"matches": Path("gone.h5"), "pairs": None},
}
"""What the message has, the name and the remedy, to what is wrong."""


class LocalizationContract:
    """A subclass has a fixture ``options``: of a whole set, with features of an earlier run."""

    @pytest.fixture
    def copied(self, options: LocalizeOptions, tmp_path: Path) -> LocalizeOptions:
        """The same for a copy of the set, to damage."""
        copy = Path(shutil.copytree(options.dataset, tmp_path / "copy"))
        return dataclasses.replace(options, dataset=copy)

    @staticmethod
    def queries(options: LocalizeOptions) -> list[str]:
        """Names of the queries."""
        return [query.name for query in read_task(options, options.open()).queries]

    def test_the_submission_has_the_benchmarks_form(self, options: LocalizeOptions) -> None:
        """A line a query: base name, quaternion with qw first, translation; nothing else."""
        localize(options)
        lines = (options.output_dir / "submission.txt").read_text().splitlines()
        names = [name.rsplit("/", 1)[-1] for name in self.queries(options)]
        assert [line.split(" ")[0] for line in lines] == names
        for line in lines:
            assert re.fullmatch(r"\S+( -?\d+(\.\d+)?(e-?\d+)?){7}", line)
            assert np.linalg.norm([float(word) for word in line.split()[1:5]]) == pytest.approx(1)

    def test_the_logs_have_what_became_of_each_query(self, options: LocalizeOptions) -> None:
        results = localize(dataclasses.replace(options, hloc_logs=True))
        logs = json.loads((options.output_dir / "logs.json").read_text())
        assert list(logs["loc"]) == self.queries(options)
        with (options.output_dir / "submission.txt_logs.pkl").open("rb") as file:
            hloc = pickle.load(file)
        assert set(hloc) == {"features", "matches", "retrieval", "loc"}
        assert set(logs) == set(hloc)
        assert list(hloc["loc"]) == list(logs["loc"])
        for name, entry in hloc["loc"].items():
            pose = entry["PnP_ret"]["cam_from_world"].matrix()
            np.testing.assert_allclose(logs["loc"][name]["cam_from_world"], pose, atol=1e-12)
            assert entry["PnP_ret"]["num_inliers"] == logs["loc"][name]["num_inliers"]
        assert json.loads((options.output_dir / "results.json").read_text()) == results
        assert all(entry["unit"] for entry in results["metrics"].values())
        assert (options.output_dir / "localization.png").read_bytes().startswith(b"\x89PNG")

    def test_an_image_that_cannot_be_drawn_costs_no_pose(
        self, options: LocalizeOptions, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(path: Path) -> None:
            raise ValueError(f"Cannot read {path}: it is damaged.")

        monkeypatch.setattr(pipelines.localization_picture, "read_image", fail)
        results = localize(options)
        assert results["data"]["not_localized"] == {}
        shown = results["data"]["not_drawn"]
        assert shown
        assert set(shown) <= set(self.queries(options))
        for name, reason in shown.items():
            assert str(options.open().image_dir / name) in reason
            assert f"not drawn: {name}: " in summary(results, options)
        assert json.loads((options.output_dir / "results.json").read_text()) == results
        assert (options.output_dir / "localization.png").stat().st_size > 1000

    def test_a_picture_that_cannot_be_made_costs_no_pose(
        self, options: LocalizeOptions, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(path: Path, *_: object) -> None:
            path.write_bytes(b"half a picture")
            raise np.linalg.LinAlgError("SVD did not converge")

        monkeypatch.setattr(pipelines.localization_picture, "draw_localization", fail)
        results = localize(options)
        assert "SVD" in results["data"]["not_drawn"]["localization.png"]
        assert (options.output_dir / "submission.txt").exists()
        assert not (options.output_dir / "localization.png").exists()

    def test_why_retrieval_left_an_image_out_is_reported(
        self, options: LocalizeOptions, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = dataclasses.replace(options, pairs=None, matches=None, matcher="NN-ratio")
        localize(whole)
        query, image = read_pairs(whole.output_dir / "pairs-query.txt")[0]
        left_out = dict.fromkeys([query, image], "Cannot describe it: it is too small.")
        describe = pipelines.run.global_descriptors

        def describe_others(*arguments: Any, **options: Any) -> RetrievalSummary:
            found = describe(*arguments, **options)
            names = [name for name in found.names if name not in left_out]
            return dataclasses.replace(found, names=names, skipped=left_out)

        monkeypatch.setattr(pipelines.run, "global_descriptors", describe_others)
        data = localize(whole)["data"]
        assert data["not_localized"] == {query: "Cannot describe it: it is too small"}
        assert data["skipped"] == {image: left_out[image]}

    def test_a_failed_run_leaves_the_earlier_results(self, options: LocalizeOptions) -> None:
        localize(options)
        names = ["results.json", "submission.txt", "localization.png", "logs.json"]
        before = {name: (options.output_dir / name).read_bytes() for name in names}
        model = options.output_dir / "sfm" / "model" / "points3D.bin"
        points = model.read_bytes() if model.exists() else None
        others = dataclasses.replace(options, min_inliers=10_000, seed=1)  # and another model
        with pytest.raises(ValueError, match="None of the 4 queries could be localized"):
            localize(others)
        assert {name: (options.output_dir / name).read_bytes() for name in names} == before
        assert points is None or model.read_bytes() == points
        localize(options)
        assert not (options.output_dir / "unfinished").exists()

    def test_what_a_run_does_not_make_goes_with_the_results(self, options: LocalizeOptions) -> None:
        localize(dataclasses.replace(options, hloc_logs=True))
        own = options.output_dir / "submission-mine.txt"
        own.write_text("not of the command\n")
        localize(options)
        assert not (options.output_dir / "submission.txt_logs.pkl").exists()
        assert own.exists()

    @pytest.mark.parametrize("message", BAD_REQUESTS)
    def test_bad_input_is_found_before_the_work(
        self, options: LocalizeOptions, tmp_path: Path, message: str
    ) -> None:
        change = BAD_REQUESTS[message]
        changes = change(options, tmp_path) if callable(change) else change
        fresh = dataclasses.replace(options, outputs=tmp_path / "fresh")
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            localize(dataclasses.replace(fresh, **changes))
        assert not (tmp_path / "fresh").exists()

    def test_check_names_the_files_and_where_to_get_them(
        self, copied: LocalizeOptions, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run(copied, check=True)
        assert "is complete" in capsys.readouterr().out
        gone = copied.open().image_dir / self.queries(copied)[0]
        gone.write_bytes(b"not a photograph")
        listed = dataclasses.replace(copied, **_pairs_of_others(copied, tmp_path))
        with pytest.raises(ValueError, match=r"can be used, but .*: 3 problems"):
            run(listed, check=True)
        shown = capsys.readouterr().out
        assert str(gone) in shown
        assert str(copied.open().image_dir / "a.jpg") in shown
        assert "Where to get" in shown
        assert not copied.output_dir.exists()
