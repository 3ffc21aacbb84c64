"""The processes of a training under ``torchrun``, one per GPU."""

import atexit
import os
from datetime import timedelta

import torch

from featplug.base import choose_device


def process_rank() -> tuple[int, int]:
    """Return the rank of this process, and the number of processes."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def process_device(name: str | None = None) -> torch.device:
    """Return the device of this process: its own GPU under ``torchrun``, else the chosen one."""
    device = choose_device(name)
    if process_rank()[1] > 1 and device.type == "cuda":
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return device


def join_processes(device: torch.device) -> None:
    """Connect with the other processes, if any, once."""
    if process_rank()[1] > 1 and not torch.distributed.is_initialized():
        # The first process may need long to prepare the data of a large folder.
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        torch.distributed.init_process_group(backend, timeout=timedelta(days=1))
        # Its threads must end before the interpreter, which may abort otherwise.
        atexit.register(torch.distributed.destroy_process_group)


def wait_for_processes() -> None:
    """Wait until all processes arrive here."""
    if process_rank()[1] > 1:
        # Between CPUs, since GPUs would report the wait as work.
        torch.distributed.all_reduce(torch.zeros(()))


def agreed(flag: bool) -> bool:
    """Return the flag of the first process in all processes."""
    if process_rank()[1] == 1:
        return flag
    shared = torch.tensor(int(flag))
    torch.distributed.broadcast(shared, 0)
    return bool(shared)
