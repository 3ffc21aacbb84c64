"""NetVLAD as a model that hloc finds by its name."""

from featplug.hloc.shims import GlobalExtractorModel


class NetVLAD(GlobalExtractorModel):
    """NetVLAD; see :mod:`featplug.extractors.netvlad`."""

    method = "netvlad"
