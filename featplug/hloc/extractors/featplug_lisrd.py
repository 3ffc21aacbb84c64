"""LISRD as a model that hloc finds by its name."""

from featplug.hloc.shims import ExtractorModel


class LISRD(ExtractorModel):
    """LISRD; see :mod:`featplug.extractors.lisrd`."""

    method = "lisrd"
