"""The matchers of vismatch (https://github.com/gmberton/vismatch), such as ``vismatch/roma``.

Each runs in a process of its own, in the environment of another interpreter, since vismatch needs
other versions of kornia and more; see :mod:`featplug.utils.vismatch_worker`.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from featplug.base import PairMatcher
from featplug.io.feature_arrays import shown
from featplug.methods import Conf, pair_matchers, register_family, register_pair_matcher
from featplug.utils import vismatch_worker
from featplug.utils.suggestions import unknown_name
from featplug.utils.worker_process import WorkerError, WorkerProcess

PYTHON = "FEATPLUG_VISMATCH_PYTHON"
"""Environment variable with the interpreter of the environment that has vismatch."""
CORNER_ORIGIN = ("loftr", "roma", "tiny-roma", "romav2", "gim-dkm", "minima-roma")
"""Matchers whose points have the corner of the first pixel at the origin, as their code scales
them; the others' integers are pixel centres."""
_MAX_FAILURES = 3
_LIST_SECONDS = 60


def interpreter() -> str:
    """Return the interpreter that has vismatch.

    Raises:
        ValueError: there is none; the message says how to make an environment with it.
    """
    given = os.environ.get(PYTHON)
    if given and Path(given).expanduser().is_file():
        return str(Path(given).expanduser())
    if not given and find_spec("vismatch") is not None:
        return sys.executable
    problem = f"${PYTHON} is {given}, which does not exist" if given else "There is no vismatch"
    raise ValueError(
        f"{problem}; make an environment for it and name its interpreter: python -m venv VENV && "
        f"VENV/bin/pip install vismatch && export {PYTHON}=VENV/bin/python"
    )


@cache
def _installed(python: str) -> tuple[str, list[str]]:
    """Return the version of an interpreter's vismatch and the names of its matchers."""
    command = [python, vismatch_worker.__file__, "--list"]
    try:
        listed = subprocess.run(  # noqa: S603 - the user names the interpreter
            command, capture_output=True, text=True, timeout=_LIST_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        lines = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
        raise ValueError(
            f"{python} has no usable vismatch ({lines[-1]}); run {python} -m pip install vismatch"
        ) from error
    version, *names = listed.stdout.split()
    return version, names


def matcher_names() -> list[str]:
    """List the matchers of the vismatch that is installed.

    Raises:
        ValueError: it is not; the message says how to install it.
    """
    return _installed(interpreter())[1]


def matcher_conf(name: str) -> Conf:
    """Return the conf of a matcher.

    Raises:
        ValueError: vismatch is not installed, or has no such matcher.
    """
    known = matcher_names()
    if name not in known:
        raise unknown_name("vismatch matcher", name, known)
    return {
        "model": {"name": "vismatch", "matcher": name},
        "preprocessing": {"grayscale": False, "resize_max": 1024, "dfactor": 8},
        "paper": f"{name}, as vismatch has it",
    }


register_family(pair_matchers, "vismatch", matcher_names, matcher_conf)


@register_pair_matcher({}, paper="")
class Vismatch(PairMatcher):
    """A matcher of vismatch, in a process that ends with this one.

    Scores are 1 where the matcher has none; those outside of [0, 1] become ranks, from 0 to 1.

    Conf:
        matcher: vismatch's name of the matcher.
        options: further arguments of ``vismatch.get_matcher``, such as ``max_num_keypoints``.
        timeout: seconds that loading, with its downloads, or one pair may take.
    """

    default_conf: ClassVar[dict[str, Any]] = {"matcher": "", "options": {}, "timeout": 3600.0}
    positive = ("timeout",)

    def __init__(self, conf: Mapping[str, Any] | None = None) -> None:
        super().__init__(conf)
        self._python = interpreter()
        self._installed_version, _ = _installed(self._python)
        self._worker: WorkerProcess | None = None
        self._failures: list[WorkerError] = []

    @property
    def settings(self) -> dict[str, Any]:
        """Options that the output depends on, with the version of vismatch."""
        decisive = {key: value for key, value in super().settings.items() if key != "timeout"}
        return {**decisive, "vismatch": self._installed_version}

    def match_images(self, image0: Tensor, image1: Tensor) -> dict[str, Tensor]:
        """Match one pair; see :class:`featplug.base.PairMatcher`.

        Raises:
            RuntimeError: the process cannot load the matcher, ended, took too long, or answered
                something else. It is started again for the next pair, until it has failed so for
                three pairs in a row.
        """
        images = {
            f"image{i}": image.expand(3, -1, -1).numpy(force=True)
            for i, image in enumerate((image0, image1))
        }
        answer = self._answer(images, str(image0.device))
        keypoints = [answer[f"keypoints{i}"] for i in (0, 1)]
        scores = answer.get("scores", np.ones(len(keypoints[0]), np.float32))
        shapes = [array.shape for array in (*keypoints, scores)]
        num = len(scores)
        if shapes != [(num, 2), (num, 2), (num,)]:
            listed = ", ".join(map(shown, shapes))
            raise RuntimeError(f"{self._name} returned points and scores of shapes {listed}.")
        shift = 0.5 if self.conf["matcher"] in CORNER_ORIGIN else 0.0
        points0, points1 = (torch.from_numpy(points) - shift for points in keypoints)
        usable = _inside(points0, image0) & _inside(points1, image1)
        usable &= torch.from_numpy(np.isfinite(scores))
        confidence = _in_unit_range(torch.from_numpy(scores)[usable])
        return {"keypoints0": points0[usable], "keypoints1": points1[usable], "scores": confidence}

    @property
    def _name(self) -> str:
        return f"vismatch/{self.conf['matcher']}"

    def _answer(self, images: Mapping[str, np.ndarray], device: str) -> dict[str, np.ndarray]:
        if len(self._failures) >= _MAX_FAILURES:
            raise self._failures[-1]
        try:
            if self._worker is None:
                arguments = [self.conf["matcher"], device, repr(dict(self.conf["options"]))]
                command = [self._python, vismatch_worker.__file__, *arguments]
                self._worker = WorkerProcess(self._name, command, self.conf["timeout"])
            answer = self._worker.ask(images)
        except WorkerError as error:
            self._worker = None
            self._failures.append(error)
            raise
        self._failures.clear()
        if "error" in answer:
            raise RuntimeError(f"{self._name}: {answer['error']}")
        return answer


def _inside(points: Tensor, image: Tensor) -> Tensor:
    limit = torch.tensor([image.shape[2], image.shape[1]]) - 0.5
    return ((points >= -0.5) & (points <= limit)).all(1)  # false for NaN


def _in_unit_range(scores: Tensor) -> Tensor:
    if bool(((scores >= 0) & (scores <= 1)).all()):
        return scores
    return (scores.argsort(stable=True).argsort() + 1) / len(scores)
