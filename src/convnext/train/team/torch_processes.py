"""A team on PyTorch: a process for each device, started by torchrun, connected by gloo or NCCL.

Gradients are averaged once, as one flat vector, before the optimizer clips them.
`DistributedDataParallel` would overlap this with the backward pass, but it wraps a module's
`forward`, which Keras' train step bypasses, and would send the gradients of every part of an
accumulated batch. Without the overlap, a step takes longer by one all-reduce of all parameters.

Every process draws its own numbers for stochastic depth, from the first one's seeds and its rank.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from convnext.errors import ArgumentError, TrainingError
from convnext.train.team.base import ALONE, PATIENCE, Hosts, Team, lost

__all__ = ["TorchTeam"]

# A draw adds 1 to the seed. Multiples of 2**32 over the golden ratio are as far apart as possible,
# so that processes do not reach each other's numbers.
SPREAD = 0x9E3779B1
WORD = 2**32


class TorchTeam(Team):
    """One of several processes on PyTorch.

    Args:
        hosts: Rank of this process, and their number.
        environment: Environment variables, with torchrun's local rank.
    """

    def __init__(self, hosts: Hosts, environment: Mapping[str, str]) -> None:
        self.hosts = hosts
        self.rank, self.count = hosts.rank, hosts.count
        try:
            self.local_rank = int(environment.get("LOCAL_RANK", 0))
            self.neighbours = int(environment.get("LOCAL_WORLD_SIZE", 1))
        except ValueError as error:
            raise ArgumentError(
                f"LOCAL_RANK and LOCAL_WORLD_SIZE must be whole numbers, as torchrun sets: {error}."
            ) from error
        self._device = torch.device("cpu")
        self._began = False

    def __enter__(self) -> TorchTeam:
        on_gpu = torch.cuda.is_available()
        if on_gpu:
            self._choose_device()
        if dist.is_initialized():
            if (dist.get_rank(), dist.get_world_size()) != (self.rank, self.count):
                raise ArgumentError(
                    f"torch.distributed runs in this process already, with rank {dist.get_rank()} "
                    f"of {dist.get_world_size()} instead of {self.rank} of {self.count}. Start a "
                    "new process for this run."
                )
            return self
        try:
            dist.init_process_group(
                "nccl" if on_gpu else "gloo",
                init_method=f"tcp://{self.hosts.endpoint}" if not _has_store() else "env://",
                rank=self.rank,
                world_size=self.count,
                timeout=timedelta(seconds=PATIENCE),
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise TrainingError(
                f"The {self.count} hosts did not connect at {self.hosts.endpoint} within "
                f"{PATIENCE} seconds: {str(error).splitlines()[0]}. Start all of them, each with "
                "its own rank and the same count, and open the first one's port."
            ) from error
        self._began = True
        return self

    def __exit__(self, *reason: object) -> None:
        if self._began:
            with suppress(RuntimeError, ValueError):
                dist.destroy_process_group()
            self._began = False

    def _choose_device(self) -> None:
        there = torch.cuda.device_count()
        if self.local_rank >= there:
            raise ArgumentError(
                f"This process has the local rank {self.local_rank}, and the machine {there} GPUs. "
                f"Start one process for each: torchrun --nproc-per-node {there}."
            )
        torch.cuda.set_device(self.local_rank)
        self._device = torch.device("cuda", self.local_rank)

    def exchange(self, data: bytes) -> list[bytes]:
        """Gather the bytes of every host."""
        own = torch.from_numpy(np.frombuffer(data, np.uint8).copy()).to(self._device)
        found = [torch.empty_like(own) for _ in range(self.count)]
        with lost(self):
            dist.all_gather(found, own)
        return [bytes(tensor.cpu().numpy()) for tensor in found]

    def equip(self, model: Any, optimizer: Any) -> None:
        """Make the optimizer average gradients over processes before clipping."""
        del model
        optimizer.average = self._average

    def _average(self, gradients: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        with torch.no_grad():
            flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
            dist.all_reduce(flat)  # the loop translates errors: Keras would wrap a translated one
            flat /= self.count
            parts = flat.split([gradient.numel() for gradient in gradients])
            return [
                part.view(gradient.shape) for part, gradient in zip(parts, gradients, strict=True)
            ]

    def differ(self, model: Any) -> None:
        """Derive this host's seeds from the first host's."""
        for variable in model.variables:
            if variable.name == "seed_generator_state":
                seed, drawn = np.asarray(variable.value.cpu().numpy(), np.int64).tolist()
                moved = np.array([(seed + self.rank * SPREAD) % WORD, drawn % WORD], np.uint32)
                variable.assign(moved.view(np.int32).astype(str(variable.dtype)))

    def value(self, array: Any) -> Any:
        """Return the array."""
        return array

    def predict(self, model: Any, inputs: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Compute the model's outputs."""
        return ALONE.predict(model, inputs)

    def loss(self, model: Any, inputs: Sequence[NDArray[Any]]) -> float:
        """Compute the model's loss."""
        return ALONE.loss(model, inputs)


def _has_store() -> bool:
    """Whether torchrun provides the store through which processes connect."""
    return bool(dist.is_torchelastic_launched())
