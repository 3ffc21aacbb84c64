"""MTLDesc as a model that hloc finds by its name."""

from featplug.hloc.models import ExtractorModel


class MTLDesc(ExtractorModel):
    """MTLDesc; see :mod:`featplug.extractors.mtldesc`."""

    method = "mtldesc"
