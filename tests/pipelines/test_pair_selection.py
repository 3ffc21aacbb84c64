"""Which photographs of a folder are matched."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from featplug.io.pair_lists import Pair
from pipelines.given_files import Features
from pipelines.pair_selection import PairOptions, select_pairs
from pipelines.run import Stages
from pipelines.sfm import SfmOptions

NAMES = [f"{folder}/frame{i}.jpg" for folder in ("left", "right") for i in range(12)]


class RankedByNumber:
    """Stages whose retrieval ranks the images by the difference of their numbers."""

    options = SfmOptions(Path("photographs"))

    def retrieve(
        self, _: Features, num: int, queries: Sequence[str], database: Sequence[str]
    ) -> list[Pair]:
        def number(name: str) -> int:
            return int(name.rpartition("frame")[2].removesuffix(".jpg"))

        ranked = {q: sorted(database, key=lambda d: abs(number(d) - number(q))) for q in queries}
        return [(q, d) for q in queries for d in [d for d in ranked[q] if d != q][:num]]


def select(names: Sequence[str] = NAMES, **options: Any) -> list[Pair]:
    features = cast(Features, SimpleNamespace(image_dir="photographs", names=list(names)))
    return select_pairs(PairOptions(**options), cast(Stages, RankedByNumber()), features, 3)


def test_frames_of_each_folder_follow_each_other(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        pairs = select(pairs="sequential", overlap=1)
    assert pairs[:11] == [(f"left/frame{i}.jpg", f"left/frame{i + 1}.jpg") for i in range(11)]
    assert all(a.split("/")[0] == b.split("/")[0] for a, b in pairs)
    assert "2 sequences" in caplog.text
    assert "--loop-closure" in caplog.text


def test_loops_join_the_sequences(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        pairs = select(pairs="sequential", overlap=1, loop_closure=1)
    assert not caplog.text
    closures = pairs[22:]
    assert closures == [
        ("left/frame0.jpg", "right/frame0.jpg"),
        ("left/frame10.jpg", "right/frame10.jpg"),
        ("right/frame0.jpg", "left/frame1.jpg"),
        ("right/frame10.jpg", "left/frame9.jpg"),
    ]


def test_options_that_do_not_fit_are_rejected_before_any_work() -> None:
    stages = cast(Stages, RankedByNumber())
    for options, remedy in (
        (PairOptions(loop_closure=3), "--pairs sequential"),
        (PairOptions(pairs="sequential", loop_closure=-1), "0 or more"),
        (PairOptions(pairs="sequential", overlap=0), "--overlap must be at least 1"),
    ):
        with pytest.raises(ValueError, match=remedy):
            options.check_pairs(stages)
    with pytest.raises(FileNotFoundError, match=r"sequental.*sequential"):
        PairOptions(pairs="sequental").check_pairs(stages)
