"""MegaLoc: other people's code runs where it is trusted only; a stand-in for their repository."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from featplug.extractors.megaloc import REVISION
from featplug.methods import build_global_extractor, retrieval_conf

HUBCONF = """
dependencies = ["torch"]
import torch

class Mean(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("gain", torch.ones(3))

    def forward(self, images):
        return torch.nn.functional.normalize(images.mean((2, 3)) * self.gain, dim=1)

def get_trained_model():
    return Mean()
"""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of torch.hub, in which a repository stands for a downloaded one."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    return tmp_path


def download(hub: Path, hubconf: str = HUBCONF) -> None:
    folder = hub / f"gmberton_MegaLoc_{REVISION}"
    folder.mkdir()
    (folder / "hubconf.py").write_text(hubconf)


def model(**options: object) -> dict[str, object]:
    return {**retrieval_conf("megaloc")["model"], **options}


def test_code_of_others_is_not_run_without_consent(hub: Path) -> None:
    download(hub, "raise SystemExit('this must not run')")
    with pytest.raises(ValueError, match=r"megaloc .*github\.com/gmberton.*trust_repo=true.*`"):
        build_global_extractor(model())


@pytest.mark.parametrize("by_option", [True, False])
def test_trusted_code_describes_images(hub: Path, by_option: bool) -> None:
    download(hub)
    if not by_option:
        (hub / "trusted_list").write_text("gmberton_MegaLoc\n")
    extractor = build_global_extractor(model(trust_repo=True) if by_option else model())
    image = torch.rand(1, 3, 40, 50, generator=torch.Generator().manual_seed(0))
    (descriptor,) = extractor({"image": image})["global_descriptor"]
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = (image[0].mean((1, 2)) - mean) / std
    torch.testing.assert_close(descriptor, expected / expected.norm())
    (record,) = extractor.weights_records
    assert record.name == "megaloc"
    assert len(record.sha256) == 64
    with pytest.raises(ValueError, match=r"50×9 pixels are too few.*14"):
        extractor({"image": image[:, :, :9]})


def test_what_is_missing_is_one_sentence(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    download(hub, HUBCONF.replace('"torch"', '"not_installed_here"'))
    with pytest.raises(FileNotFoundError, match=r"not_installed_here.*`pip install [^`]*`.*run `"):
        build_global_extractor(model(trust_repo=True))


def test_no_network_is_one_sentence(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(FileNotFoundError, match=r"megaloc.*service not known.*run `python -c"):
        build_global_extractor(model(trust_repo=True))
