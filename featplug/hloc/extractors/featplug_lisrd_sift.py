"""LISRD-SIFT as a model that hloc finds by its name."""

from featplug.hloc.shims import ExtractorModel


class LISRDSIFT(ExtractorModel):
    """LISRD-SIFT; see :mod:`featplug.extractors.lisrd_sift`."""

    method = "lisrd_sift"
