"""D2-Net as a model that hloc finds by its name."""

from featplug.hloc.shims import ExtractorModel


class D2Net(ExtractorModel):
    """D2-Net; see :mod:`featplug.extractors.d2net`."""

    method = "d2net"
