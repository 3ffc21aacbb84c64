"""ContextDesc as a model that hloc finds by its name."""

from featplug.hloc.shims import ExtractorModel


class ContextDesc(ExtractorModel):
    """ContextDesc; see :mod:`featplug.extractors.contextdesc`."""

    method = "contextdesc"
