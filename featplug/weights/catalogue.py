"""What can be chosen: every conf with its paper, weights and licence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from featplug.methods import MethodTable, features
from featplug.weights.loading import WeightsStatus, weights_status
from featplug.weights.registry import preferred_entries


@dataclass(frozen=True)
class ConfStatus:
    """One conf."""

    name: str
    kind: str
    """``feature``, ``matcher`` or ``retrieval``."""
    paper: str | None
    dimensions: str | None
    """Size of a feature's descriptor, in words."""
    matcher: str | None
    """Matcher conf that a feature is matched with by default."""
    describes: bool
    """Whether it can describe the keypoints of other confs."""
    weights: dict[str, WeightsStatus | None]
    """Checkpoint of each network, unless another one's file includes it, to the file that is used
    or, if it is missing, the one to get; None where no file is known."""

    @property
    def is_ready(self) -> bool:
        """Whether all the weights it needs are available."""
        return all(
            status is not None and status.how not in ("missing", "damaged")
            for status in self.weights.values()
        )


def list_confs(table: MethodTable[Any] = features) -> list[ConfStatus]:
    """List the confs of a table, and report whether their weights are present."""
    return [
        ConfStatus(
            name,
            table.kind,
            conf.get("paper"),
            conf.get("dimensions"),
            conf.get("matcher"),
            "detector" in conf["model"],
            _weights(conf["model"]),
        )
        for name, conf in table.items()
    ]


def _weights(model: Mapping[str, Any]) -> dict[str, WeightsStatus | None]:
    """Find what each of a conf's networks would be loaded from."""
    chosen: dict[str, WeightsStatus | None] = {}
    included: set[str] = set()
    for checkpoint in _checkpoints(model):
        if checkpoint not in included:
            status = chosen[checkpoint] = _chosen(checkpoint)
            included |= set(status.includes) if status else set()
    return chosen


def _checkpoints(model: Mapping[str, Any]) -> Iterator[str]:
    yield from (value for key, value in model.items() if key.endswith("checkpoint"))
    if "detector" in model:
        yield from _checkpoints(model["detector"])


def _chosen(checkpoint: str) -> WeightsStatus | None:
    """The file that :func:`featplug.weights.loading.load_weights` chooses by itself."""
    statuses = [weights_status(entry) for entry in preferred_entries(checkpoint)]
    there = [status for status in statuses if status.path is not None]
    return next(iter(there + statuses), None)
