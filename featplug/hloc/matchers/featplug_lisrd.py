"""LISRD's matcher as a model that hloc finds by its name."""

from featplug.hloc.shims import MatcherModel


class LISRD(MatcherModel):
    """LISRD's matcher; see :mod:`featplug.matchers.lisrd`."""

    method = "lisrd"
