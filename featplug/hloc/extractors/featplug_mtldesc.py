"""MTLDesc as a model that hloc finds by its name."""

from featplug.hloc.shims import ExtractorModel


class MTLDesc(ExtractorModel):
    """MTLDesc; see :mod:`featplug.extractors.mtldesc`."""

    method = "mtldesc"
