"""Registered methods without a test file of their own, such as one that was just added."""

from __future__ import annotations

from pathlib import Path

from featplug.methods import features
from tests.extractors.contract import ExtractorContract


class TestOtherExtractors(ExtractorContract):
    @classmethod
    def names(cls) -> list[str]:
        folder = Path(__file__).parent
        return [
            name
            for name, conf in features.items()
            if not (folder / f"test_{conf['model']['name']}.py").is_file()
        ]


TestOtherExtractors.__test__ = bool(TestOtherExtractors.names())  # type: ignore[attr-defined]
