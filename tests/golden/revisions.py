"""Whether a method's or a stage's output changed while its revision stayed.

``revisions.json`` holds the revision and some figures of a small output of each. A changed output
needs a higher revision, so that files of the older one are not reused; then
``pytest --record-revisions`` records both. Only what the tests of that run computed is recorded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

RECORD = Path(__file__).parent / "revisions.json"
_TOLERANCE = 1e-3
"""Relative to the spread of an array; processors differ by less, changed methods by more."""


class Revisions:
    """The recorded outputs, compared or recorded.

    Args:
        record: the JSON file.
        is_recording: write what is computed in place of comparing it.
    """

    def __init__(self, record: Path, is_recording: bool) -> None:
        self._record, self._is_recording = record, is_recording
        self._entries = json.loads(record.read_text("utf-8")) if record.exists() else {}

    def check(self, name: str, revision: object, outputs: Mapping[str, Any]) -> None:
        """Compare an output with the recorded one of the same revision, or record it.

        Args:
            name: name of the method or stage.
            revision: its revision, or those of all its parts.
            outputs: arrays or tensors, small and from seeded inputs.
        """
        figures = {key: _figures(np.asarray(value)) for key, value in sorted(outputs.items())}
        entry = {"revision": revision, "outputs": figures}
        if self._is_recording:
            self._entries[name] = entry
            lines = [f"{json.dumps(n)}: {json.dumps(e)}" for n, e in sorted(self._entries.items())]
            self._record.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")
            return
        remedy = "record it with pytest --record-revisions"
        if name not in self._entries:
            pytest.skip(f"No output of {name} is recorded yet; {remedy}.")
        recorded = self._entries[name]
        if recorded["revision"] != revision:
            pytest.fail(
                f"{name} has revision {revision}, recorded is {recorded['revision']}; {remedy}."
            )
        if not _are_close(recorded["outputs"], figures):
            pytest.fail(
                f"The output of {name} changed while its revision stayed {revision}; raise the "
                f"revision and {remedy}."
            )


def _figures(array: np.ndarray) -> dict[str, Any]:
    """Return shape, spread and some weighted means of an array."""
    values = np.nan_to_num(array.astype(np.float64).ravel())
    ramps = [np.cos(frequency * np.arange(values.size)) for frequency in (0.0, 0.7, 0.01)]
    means = [_mean(values * ramp) for ramp in ramps]
    spread = _mean(np.abs(values))
    return {"shape": list(array.shape), "spread": spread, "means": means}


def _mean(values: np.ndarray) -> float:
    return float(f"{values.mean():.7g}") if values.size else 0.0


def _are_close(recorded: Mapping[str, Any], computed: Mapping[str, Any]) -> bool:
    if recorded.keys() != computed.keys():
        return False
    for key, one in recorded.items():
        other = computed[key]
        numbers = [one["spread"], *one["means"]], [other["spread"], *other["means"]]
        margin = _TOLERANCE * max(one["spread"], 1e-12)
        if one["shape"] != other["shape"] or not np.allclose(*numbers, rtol=0, atol=margin):
            return False
    return True
