"""Files that ask for much end in one sentence in every format; attacks measure what that took."""

from __future__ import annotations

from pathlib import Path

import pytest

from featplug.weights.importing import import_weights
from tests.weights.crafted_files import CRAFTED


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CRAFTED)
def test_a_crafted_file_is_rejected_with_its_name_and_a_remedy(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEATPLUG_WEIGHTS", str(tmp_path / "weights"))
    entry, file, write = CRAFTED[name]
    path = tmp_path / file
    write(path)
    with pytest.raises(ValueError, match=r"; |another system") as caught:
        import_weights(path, entry)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "weights").exists()
