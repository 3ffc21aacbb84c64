"""Runs started at once in one folder: one works, the others end with a sentence and touch nothing.

``python -m tests.attacks.concurrent --trials 40 --seed 1``. Each trial starts a command twice or
three times, with other options and at random times.
"""

from __future__ import annotations

import random
import tempfile
import time
from functools import partial
from pathlib import Path

import tyro

from tests.attacks.harness import Outcome, Running, Tally, attempt
from tests.attacks.kills import contents, missing, targets


def fault_of(outcomes: list[Outcome], folder: Path) -> str | None:
    """Return what is wrong with how runs at once have ended."""
    if not any(outcome.exit_code == 0 for outcome in outcomes):
        return "none of the runs was finished"
    for outcome in outcomes:
        lines = [line for line in outcome.output.splitlines() if "replaced when" not in line]
        if outcome.exit_code not in (0, 2):
            return f"exit code {outcome.exit_code}"
        if outcome.exit_code == 2 and (
            len(lines) != 1 or "in use by another process" not in lines[0]
        ):
            return "another reason than the folder or file in use"
        if outcome.exit_code == 2 and str(folder) not in lines[0]:
            return "the sentence lacks the folder or file"
    return None


def main(trials: int = 40, seed: int = 1) -> None:
    """Start commands at once, and check how they end and what they leave."""
    tally = Tally("concurrent starts", seed)
    with tempfile.TemporaryDirectory() as temporary:
        commands = targets(Path(temporary))
        whole, seconds = {}, {}
        for target in commands:
            attempt(target.run(0))
            whole[target.name] = contents(target) if target.stores else {}
            seconds[target.name] = attempt(target.run(1)).seconds
        for trial in range(trials):
            rng = random.Random(f"{seed}-{trial}")
            target = commands[trial % len(commands)]
            if rng.random() < 0.5:
                for path in target.stores:
                    path.unlink(missing_ok=True)
            running = []
            for number in range(rng.choice((2, 2, 3))):
                running.append(Running(target.run(10 * trial + number)))
                time.sleep(rng.uniform(0, 0.7 * seconds[target.name]) * rng.choice((0, 1)))
            outcomes = [process.wait() for process in running]
            fault = fault_of(outcomes, target.folder)
            checked = attempt(partial(target.check, target.folder))
            if checked.exit_code:
                fault = f"damaged: {checked.message}"
            elif missing(whole[target.name], contents(target)):
                fault = fault or "lost images or pairs"
            slowest = max(outcomes, key=lambda outcome: (bool(outcome.fault), outcome.seconds))
            tally.add(f"{trial} {target.name}", slowest, fault)
    tally.finish()


if __name__ == "__main__":
    tyro.cli(main)
