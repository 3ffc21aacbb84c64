"""The training loop on a task of four numbers: it learns, and resumes where it was stopped."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import Dataset

from featplug.training.export import export_weights
from featplug.training.history import read_history
from featplug.training.task import Batch, Forward, Losses, Task, TrainingOptions
from featplug.training.trainer import train
from featplug.weights.checkpoints import state_sha256
from featplug.weights.importing import import_weights
from tests.training.processes import run_two_processes

TRUTH = torch.tensor([[1.0, -2.0, 0.5]])


class Batches(Dataset[dict[str, Tensor]]):
    def __getitem__(self, step: int) -> dict[str, Tensor]:
        return {"x": torch.randn(16, 3, generator=torch.Generator().manual_seed(step))}


class Regression(Task):
    """Find :data:`TRUTH` from noisy products, with dropout."""

    score = "accuracy"
    system = "regression"

    def __init__(self, options: TrainingOptions) -> None:
        torch.manual_seed(0)
        self.options, self.inputs = options, {}
        self.network = nn.Sequential(nn.Linear(3, 1), nn.Dropout(0.05))
        self.data = Batches()

    def losses(self, forward: Forward, batch: Batch, generator: torch.Generator) -> Losses:
        noise = 0.1 * torch.randn(16, 1, generator=generator)
        error = forward(batch["x"]) - batch["x"] @ TRUTH.T - noise
        return {"loss": error.square().mean(), "largest": error.abs().max()}

    def validate(self, weights: Path) -> dict[str, float]:
        assert torch.equal(load_file(weights)["0.weight"], self.network[0].weight)
        return {"accuracy": -float((self.network[0].weight - TRUTH).abs().max())}


def options(folder: Path, **changes: Any) -> TrainingOptions:
    return TrainingOptions(
        **{
            "images": folder / "images",
            "outputs": folder,
            "steps": 120,
            "learning_rate": 0.1,
            "device": "cpu",
            "num_workers": 0,
            "validate_every": 40,
            **changes,
        }
    )


def test_it_learns_and_leaves_weights_curves_and_history(tmp_path: Path) -> None:
    summary = train(Regression(options(tmp_path)))
    assert summary.finished
    assert summary.metrics["accuracy"] > -0.2
    history = read_history(tmp_path / "history.csv")
    assert history["loss"][:, 0].tolist() == list(range(1, 121))
    assert history["loss"][-20:, 1].mean() < 0.2 * history["loss"][:5, 1].mean()
    assert history["val_accuracy"][:, 0].tolist() == [40, 80, 120]
    weights = load_file(summary.weights)
    assert (weights["0.weight"] - TRUTH).abs().max() == pytest.approx(-summary.metrics["accuracy"])
    with safe_open(tmp_path / "best.safetensors", "pt") as best:
        assert '"system": "regression"' in best.metadata()["config"]
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["metrics"] == summary.metrics
    assert results["seconds"] > 0


def test_exported_weights_say_what_made_them_but_not_where(tmp_path: Path) -> None:
    run, file = tmp_path / "run", tmp_path / "regression.safetensors"
    with pytest.raises(FileNotFoundError, match=r"run: .*--outputs"):
        export_weights(run, file, "Apache-2.0")
    run.mkdir()
    with pytest.raises(FileNotFoundError, match=r"best\.safetensors.*train"):
        export_weights(run, file, "Apache-2.0")
    train(Regression(options(run)))
    assert export_weights(run, file, "Apache-2.0") in (40, 80, 120)
    exported, best = load_file(file), load_file(run / "best.safetensors")
    assert exported.keys() == best.keys()
    assert all(torch.equal(exported[key], value.half()) for key, value in best.items())
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    assert (metadata["system"], metadata["seed"], metadata["steps"]) == ("regression", "0", "120")
    assert metadata["licence"] == "Apache-2.0"
    assert metadata["tensors_sha256"] == state_sha256(exported)
    for own in (file, run / "best.safetensors"):
        assert own.stat().st_mode & 0o044, "colleagues cannot read it"
        with pytest.raises(ValueError, match="--weights"):
            import_weights(own, destination=tmp_path)
    assert str(tmp_path) not in str(metadata)


@pytest.mark.parametrize(
    "change",
    [
        {"step": "three"},
        {"metrics": {"a": [1]}},
        {"metrics": None},
        {"network": {"0.weight": torch.zeros(9, 9)}},
        {"optimizer": {"state": {}}},
        None,
    ],
)
def test_a_checkpoint_of_something_else_is_named(
    tmp_path: Path, change: dict[str, object] | None
) -> None:
    train(Regression(options(tmp_path, max_minutes=0)))
    checkpoint = tmp_path / "checkpoint.pt"
    state = torch.load(checkpoint, weights_only=True)
    torch.save([1] if change is None else {**state, **change}, checkpoint)
    with pytest.raises(ValueError, match=r"checkpoint\.pt does not hold .*--outputs"):
        train(Regression(options(tmp_path, max_minutes=0)))
    with checkpoint.open("r+b") as file:
        file.truncate(2**40)
    with pytest.raises(ValueError, match=r"checkpoint\.pt has 1,099,512 MB"):
        train(Regression(options(tmp_path, max_minutes=0)))


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_weights(tmp_path: Path) -> None:
    whole = train(Regression(options(tmp_path / "whole")))
    # The same run in a process of its own, which kills itself without warning.
    code = (
        "from tests.training.test_trainer import *\n"
        f"run = options(Path({str(tmp_path / 'killed')!r}), checkpoint_minutes=0, num_workers=1)\n"
        "train(Interrupted(run, 1, signal.SIGKILL))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    checkpoint = tmp_path / "killed" / "checkpoint.pt"
    assert torch.load(checkpoint, weights_only=True)["step"] == 49
    resumed = train(Regression(options(tmp_path / "killed")))
    assert resumed.finished
    for key, value in load_file(whole.weights).items():
        torch.testing.assert_close(load_file(resumed.weights)[key], value, rtol=0, atol=0)
    histories = [read_history(tmp_path / name / "history.csv") for name in ("whole", "killed")]
    assert histories[0]["loss"].tolist() == histories[1]["loss"].tolist()


def test_the_end_of_the_time_is_no_end_of_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped = train(Regression(options(tmp_path, max_minutes=0)))
    assert not stopped.finished
    assert stopped.step == 1
    assert train(Regression(options(tmp_path, max_minutes=0)), progress=True).step == 2
    assert " 1/120 " in capsys.readouterr().err  # the bar resumes, too
    assert train(Regression(options(tmp_path))).finished


def test_a_finished_run_is_left_alone(tmp_path: Path) -> None:
    train(Regression(options(tmp_path)))
    before = (tmp_path / "weights.safetensors").stat().st_mtime_ns
    assert train(Regression(options(tmp_path))).finished
    assert (tmp_path / "weights.safetensors").stat().st_mtime_ns == before


def test_another_run_in_the_folder_is_rejected(tmp_path: Path) -> None:
    train(Regression(options(tmp_path, max_minutes=0)))
    with pytest.raises(ValueError, match=r"learning_rate = 0\.1.*0\.2.*--outputs"):
        train(Regression(options(tmp_path, learning_rate=0.2)))


def test_a_run_of_another_system_or_of_an_earlier_version_is_rejected(tmp_path: Path) -> None:
    train(Regression(options(tmp_path, max_minutes=0)))
    with pytest.raises(ValueError, match=r"regression.*classification.*--outputs"):
        train(Classification(options(tmp_path)))
    (tmp_path / "made_from.json").rename(tmp_path / "config.json")
    with pytest.raises(ValueError, match=r"0\.1.*--outputs"):
        train(Regression(options(tmp_path)))
    (tmp_path / "best.safetensors").touch()
    with pytest.raises(ValueError, match=r"--start .*best\.safetensors"):
        train(Regression(options(tmp_path)))


class Classification(Regression):
    """The same by another name."""

    system = "classification"


class Interrupted(Regression):
    """A signal, by default that of Ctrl-C, comes amid the fiftieth step, once or twice."""

    def __init__(self, options: TrainingOptions, times: int, kind: int = signal.SIGINT) -> None:
        super().__init__(options)
        self.times, self.kind, self.calls = times, kind, 0

    def losses(self, *args: Any) -> dict[str, Tensor]:
        self.calls += 1
        if self.calls == 50:
            for _ in range(self.times):
                signal.raise_signal(self.kind)
        return super().losses(*args)


@pytest.mark.parametrize(("times", "step"), [(1, 50), (2, 49)])
def test_an_interrupted_run_resumes_to_the_same_weights(
    tmp_path: Path, times: int, step: int
) -> None:
    whole = train(Regression(options(tmp_path / "whole")))
    folder = tmp_path / "stopped"
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            train(Interrupted(options(folder, checkpoint_minutes=0), times))
    finally:
        signal.signal(signal.SIGINT, before)
    assert torch.load(folder / "checkpoint.pt", weights_only=True)["step"] == step
    resumed = train(Regression(options(folder)))
    assert resumed.finished
    for key, value in load_file(whole.weights).items():
        torch.testing.assert_close(load_file(resumed.weights)[key], value, rtol=0, atol=0)


def test_an_interrupt_amid_the_last_validation_leaves_it_to_be_done(tmp_path: Path) -> None:
    class Impatient(Regression):
        def validate(self, weights: Path) -> dict[str, float]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(Impatient(options(tmp_path, steps=30)))
    summary = train(Regression(options(tmp_path, steps=30)))
    assert summary.finished
    assert summary.metrics


@pytest.mark.slow
def test_two_processes_train_one_network(tmp_path: Path) -> None:
    code = (
        "from tests.training.test_trainer import *\n"
        f"print(train(Regression(options(Path({str(tmp_path)!r})))).finished)"
    )
    ended = run_two_processes(code)
    assert [process.output.strip() for process in ended] == ["True"] * 2, ended
    # Each process has batches of its own, so that it is not the run of one.
    together, alone = (
        load_file(tmp_path / "weights.safetensors"),
        train(Regression(options(tmp_path / "alone"))),
    )
    assert (together["0.weight"] - TRUTH).abs().max() < 0.2
    assert not torch.equal(together["0.weight"], load_file(alone.weights)["0.weight"])


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    task = Regression(options(tmp_path))
    task.network[0].weight.data.fill_(torch.inf)
    with pytest.raises(ValueError, match=r"step 1 is nan.*--outputs.*--learning-rate"):
        train(task)


def test_a_gradient_that_is_not_finite_does_not_spoil_the_weights(tmp_path: Path) -> None:
    class Spoiled(Regression):
        def losses(self, *args: Any) -> dict[str, Tensor]:
            losses = super().losses(*args)
            if torch.initial_seed() == 60:  # the 61st step's; sqrt has no gradient at 0
                losses["loss"] = losses["loss"] + (0 * self.network[0].weight.sum()).sqrt()
            return losses

    with pytest.raises(ValueError, match=r"step 61 .*--start .*best\.safetensors"):
        train(Spoiled(options(tmp_path, checkpoint_minutes=0)))
    for name in ("best", "weights"):
        assert load_file(tmp_path / f"{name}.safetensors")["0.weight"].isfinite().all()
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 60


@pytest.mark.parametrize("name", ["steps", "validate_every"])
def test_counts_below_one_are_rejected(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}.*0"):
        train(Regression(options(tmp_path, **{name: 0})))
