"""Limits of the service, beyond which it answers at once instead of working."""

from dataclasses import dataclass, fields
from math import inf


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a request may take."""

    max_upload_mib: float = 32.0
    """Largest upload in MiB; a larger one is answered by 413 before it is read."""
    max_megapixels: float = 64.0
    """Largest photograph; a larger one is answered by 422 before it is decoded."""
    max_waiting: int = 16
    """Number of requests that may wait while one is worked on; others are answered by 503."""
    max_retrieved: int = 100
    """Largest number of database images that a request may ask to be matched with."""
    timeout: float = 60.0
    """Seconds from the start of an upload to the answer; then 504 is answered."""

    def check(self) -> None:
        """Raise ValueError if a limit is not above zero and finite."""
        for field in fields(self):
            if not 0 < getattr(self, field.name) < inf:
                option, value = field.name.replace("_", "-"), getattr(self, field.name)
                raise ValueError(f"--{option} must be above 0 and finite, not {value}.")

    @property
    def max_upload_bytes(self) -> int:
        """Largest upload in bytes."""
        return int(self.max_upload_mib * 2**20)
