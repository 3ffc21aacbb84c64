from ..utils.base_model import BaseModel


class NearestNeighbor(BaseModel):
    """hloc's own model, which must stay reachable."""

    def _init(self, conf):
        pass
