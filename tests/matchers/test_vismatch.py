"""vismatch's matchers in a process of their own, with a package that stands in for vismatch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from featplug.io.pair_lists import write_pairs
from featplug.io.store import FeatureReader
from featplug.matchers import vismatch
from featplug.matchers.vismatch import Vismatch
from featplug.methods import build_pair_matcher, is_pair_matcher, pair_matcher_conf
from featplug.stages.match_images import match_images
from tests.scenes.pictures import textured_image

# The functions, arguments and results of vismatch 1.4 that are used.
STAND_IN = """
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch

available_models = ["grid", "roma", "crash", "hang", "shapes", "raises", "unloadable", "shouts"]


class Matcher(torch.nn.Module):
    def __init__(self, name, device, options):
        super().__init__()
        self.name, self.device, self.options = name, device, options

    def forward(self, img0, img1):
        assert img0.shape[0] == 3 and img0.dtype == torch.float32
        num = self.options.get("max_num_keypoints", 50)
        rng = np.random.default_rng(0)
        points = rng.uniform(5, 40, (num, 2))
        points[0] = np.nan
        result = {
            "num_inliers": 0,
            "H": None,
            "matched_kpts0": points,
            "matched_kpts1": points + [1, 0.25],
            "matched_confidences": None,
        }
        if self.name == "shapes":
            result["matched_kpts1"] = points[:-1]
        elif self.name == "shouts":
            print("a line on the standard output", flush=True)
            sys.stdin.read()
            result["matched_confidences"] = np.arange(num) - 7.0
        elif self.name == "raises":
            raise ValueError("no such thing\\nas this")
        elif self.name == "hang":
            time.sleep(600)
        elif self.name == "crash":
            with Path("calls").open("a") as calls:
                calls.write("x")
            os._exit(11)
        return result


def get_matcher(matcher_name="sift-lightglue", device="cpu", max_num_keypoints=2048, **options):
    print("Downloading", flush=True)
    if matcher_name == "unloadable":
        raise RuntimeError("CUDA is needed")
    if max_num_keypoints != 2048:
        options["max_num_keypoints"] = max_num_keypoints
    return Matcher(matcher_name, device, options)
"""


@pytest.fixture(autouse=True)
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site" / "vismatch"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(STAND_IN)
    about = package.parent / "vismatch-9.8.7.dist-info" / "METADATA"
    about.parent.mkdir()
    about.write_text("Metadata-Version: 2.1\nName: vismatch\nVersion: 9.8.7\n")
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    monkeypatch.setenv(vismatch.PYTHON, sys.executable)
    monkeypatch.chdir(tmp_path)
    vismatch._installed.cache_clear()


def build(name: str, **options: Any) -> Vismatch:
    conf = pair_matcher_conf(f"vismatch/{name}")
    matcher = build_pair_matcher({**conf["model"], **options})
    assert isinstance(matcher, Vismatch)
    return matcher


def run(matcher: Vismatch) -> dict[str, torch.Tensor]:
    return matcher.match_pair(torch.zeros(3, 40, 60), torch.zeros(3, 50, 48))


def test_points_are_those_of_vismatch_inside_of_the_images() -> None:
    matcher = build("grid", options={"max_num_keypoints": 200})
    found, again = run(matcher), run(matcher)
    points = np.random.default_rng(0).uniform(5, 40, (200, 2))[1:].astype(np.float32)
    inside = points[points[:, 1] <= 39.5]
    np.testing.assert_array_equal(found["keypoints0"], inside)
    np.testing.assert_allclose(found["keypoints1"], inside + np.array([1, 0.25]), atol=1e-5)
    assert (found["scores"] == 1).all()
    torch.testing.assert_close(found, again)


def test_points_from_the_corner_of_a_pixel_become_from_its_centre() -> None:
    moved = run(build("grid"))["keypoints1"][:20] - run(build("roma"))["keypoints1"][:20]
    np.testing.assert_allclose(moved, 0.5, atol=1e-6)


def test_what_vismatch_prints_does_not_disturb_and_scores_become_ranks(
    capfd: pytest.CaptureFixture[str],
) -> None:
    found = run(build("shouts", options={"max_num_keypoints": 20}))
    assert (found["scores"] > 0).all()
    assert found["scores"].max() == 1
    assert (found["scores"].diff() > 0).all()
    printed = capfd.readouterr()
    assert "a line on the standard output" in printed.err
    assert printed.out == ""


def test_names_are_listed_and_checked() -> None:
    assert "unloadable" in vismatch.matcher_names()
    assert is_pair_matcher("vismatch/grid")
    with pytest.raises(ValueError, match=r"vismatch matcher 'grit'.*grid"):
        pair_matcher_conf("vismatch/grit")


def test_the_version_is_part_of_the_provenance() -> None:
    assert build("grid").settings["vismatch"] == "9.8.7"
    assert "timeout" not in build("grid").settings


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("crash", "vismatch/crash ended with status 11"),
        ("shapes", "vismatch/shapes returned points .*50×2, 49×2, 50"),
        ("raises", "vismatch/raises: ValueError: no such thing$"),
        ("unloadable", "vismatch/unloadable cannot be loaded: RuntimeError: CUDA is needed"),
    ],
)
def test_failures_are_one_sentence(name: str, message: str) -> None:
    with pytest.raises(RuntimeError, match=message) as error:
        run(build(name))
    assert "\n" not in str(error.value)


def test_a_process_that_hangs_is_ended() -> None:
    matcher = build("hang", timeout=5.0)
    with pytest.raises(RuntimeError, match=r"vismatch/hang took more than 5 s .*timeout"):
        run(matcher)
    assert matcher._worker is None


def test_a_process_is_started_again_for_some_pairs_only(tmp_path: Path) -> None:
    matcher = build("crash")
    for _ in range(6):
        with pytest.raises(RuntimeError, match="ended with status 11"):
            run(matcher)
    assert (tmp_path / "calls").read_text() == "xxx"


def test_where_there_is_no_vismatch_the_commands_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = rf"pip install vismatch.*{vismatch.PYTHON}"
    monkeypatch.delenv(vismatch.PYTHON)
    with pytest.raises(ValueError, match=commands):
        pair_matcher_conf("vismatch/roma")
    with pytest.raises(ValueError, match=commands):
        vismatch.matcher_names()
    monkeypatch.setenv(vismatch.PYTHON, str(tmp_path / "nowhere" / "python"))
    with pytest.raises(ValueError, match=rf"nowhere.*{commands}"):
        pair_matcher_conf("vismatch/roma")
    monkeypatch.setenv(vismatch.PYTHON, str(Path(__file__)))  # is no program
    with pytest.raises(ValueError, match=r"test_vismatch.py has no usable vismatch"):
        pair_matcher_conf("vismatch/roma")
    monkeypatch.setenv(vismatch.PYTHON, sys.executable)
    monkeypatch.setenv("PYTHONPATH", "")
    with pytest.raises(ValueError, match=r"no package vismatch.*pip install vismatch"):
        pair_matcher_conf("vismatch/roma")


def test_the_engine_uses_it_like_any_other(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for i in range(3):
        Image.fromarray(textured_image(i, 96, 64)).save(images / f"{i}.png")
    write_pairs(tmp_path / "pairs.txt", [("0.png", "1.png"), ("1.png", "2.png")])
    done = match_images("vismatch/grid", tmp_path / "pairs.txt", images, tmp_path)
    assert done.skipped == {}
    with FeatureReader(done.feature_path) as reader:
        assert len(reader.keypoints("1.png")) > 20
        assert reader.provenance is not None
        assert reader.provenance.conf["model"]["vismatch"] == "9.8.7"


SCRIPT = """
import sys, torch
from featplug.methods import build_pair_matcher, pair_matcher_conf
matcher = build_pair_matcher(pair_matcher_conf(f"vismatch/{sys.argv[1]}")["model"])
image = torch.zeros(3, 40, 60)
if sys.argv[1] == "hang":
    import threading, time
    def tell():
        while matcher._worker is None: time.sleep(0.01)
        print(matcher._worker._process.pid, flush=True)
    threading.Thread(target=tell, daemon=True).start()
matcher.match_images(image, image)
print(matcher._worker._process.pid, flush=True)
"""


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="reads /proc")
@pytest.mark.parametrize("end", ["returns", "SIGINT", "SIGKILL"])
def test_the_process_ends_with_this_one(end: str, tmp_path: Path) -> None:
    repository = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{repository}{os.pathsep}{tmp_path / 'site'}"}
    name = "grid" if end == "returns" else "hang"
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, name],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    worker = int(process.stdout.readline())
    if end != "returns":
        assert _is_alive(worker)
        process.send_signal(getattr(signal, end))
    process.wait(30)
    deadline = time.monotonic() + 30
    while _is_alive(worker):
        assert time.monotonic() < deadline, f"the process {worker} is still running"
        time.sleep(0.05)
