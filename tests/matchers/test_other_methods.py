"""Registered methods without a test file of their own, such as one that was just added."""

from __future__ import annotations

from pathlib import Path

from featplug.methods import matchers
from tests.matchers.contract import MatcherContract


class TestOtherMatchers(MatcherContract):
    @classmethod
    def names(cls) -> list[str]:
        folder = Path(__file__).parent
        return [
            name
            for name, conf in matchers.items()
            if not (folder / f"test_{conf['model']['name']}.py").is_file()
        ]


TestOtherMatchers.__test__ = bool(TestOtherMatchers.names())  # type: ignore[attr-defined]
