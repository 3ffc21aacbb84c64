"""DOAP as a model that hloc finds by its name."""

from featplug.hloc.shims import ExtractorModel


class DOAP(ExtractorModel):
    """DOAP; see :mod:`featplug.extractors.doap`."""

    method = "doap"
