"""All confs with their papers, weights and licences."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from featplug.methods import MethodTable, features, matcher_of
from featplug.weights.loading import WeightsStatus, weights_status
from featplug.weights.registry import preferred_entries


@dataclass(frozen=True)
class ConfStatus:
    """One conf, and the files of its weights."""

    name: str
    kind: str
    """``feature``, ``matcher`` or ``retrieval``."""
    paper: str | None
    dimensions: str | None
    """Size of a feature's descriptor, in words."""
    matcher: str | None
    """Matcher conf that a feature is matched with by default."""
    two_view_matcher: str | None
    """The same for two views."""
    describes: bool
    """Whether it can describe the keypoints of other confs."""
    weights: dict[str, WeightsStatus | None]
    """File that each network is loaded from or, if it is missing, the file to get, by the network's
    checkpoint; None where no file is known. A network that another's file includes is left out."""

    @property
    def matchers(self) -> str:
        """Return the default matchers in words."""
        if self.two_view_matcher in (None, self.matcher):
            return self.matcher or ""
        return f"{self.matcher}; two views: {self.two_view_matcher}"

    @property
    def is_ready(self) -> bool:
        """Whether all the weights it needs are available."""
        return all(s and s.how not in ("missing", "damaged") for s in self.weights.values())


def list_confs(table: MethodTable[Any] = features) -> list[ConfStatus]:
    """List the confs of a table, and report whether their weights are present."""
    confs = []
    for name, conf in table.items():
        paper, dimensions, matcher = map(conf.get, ("paper", "dimensions", "matcher"))
        two_views = matcher and matcher_of(conf, two_views=True)
        describes, weights = "detector" in conf["model"], weights_of(conf["model"])
        confs.append(
            ConfStatus(name, table.kind, paper, dimensions, matcher, two_views, describes, weights)
        )
    return confs


def weights_of(model: Mapping[str, Any]) -> dict[str, WeightsStatus | None]:
    """Return the file of each network of a model; see :attr:`ConfStatus.weights`."""
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
    """Return the file that :func:`featplug.weights.loading.load_weights` chooses by itself."""
    statuses = [weights_status(entry) for entry in preferred_entries(checkpoint)]
    present = [status for status in statuses if status.path is not None]
    return next(iter(present + statuses), None)
