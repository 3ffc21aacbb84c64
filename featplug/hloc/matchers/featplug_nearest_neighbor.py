"""Nearest neighbours as a model that hloc finds by its name."""

from featplug.hloc.shims import MatcherModel


class NearestNeighbor(MatcherModel):
    """Nearest neighbours; see :mod:`featplug.matchers.nearest_neighbor`."""

    method = "nearest_neighbor"
