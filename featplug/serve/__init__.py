"""An HTTP service that answers photographs with their poses; needs the extra ``serve``."""
