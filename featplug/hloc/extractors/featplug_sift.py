"""SIFT as a model that hloc finds by its name."""

from featplug.hloc.shims import ExtractorModel


class SIFT(ExtractorModel):
    """SIFT; see :mod:`featplug.extractors.sift`."""

    method = "sift"
