"""A team on PyTorch: one process for each device, started by torchrun, gloo or NCCL between them.

Gradients are averaged in one place, where the optimizer is about to clip them, as one flat vector.
`DistributedDataParallel` would send them while the backward pass is still at work, but it wraps a
module's `forward`, which Keras' train step does not call through; it would send the gradients of
every part of an accumulated batch instead of their sum; and it knows nothing of clipping by the
norm over all parameters, which has to see averages. What is given up is the overlap: a step takes
longer by the time that one all-reduce of the parameters' size takes.

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
from convnext.train.team import ALONE, PATIENCE, Hosts, Team, lost

__all__ = ["TorchTeam"]

# Multiples of 2**32 over the golden ratio lie as far apart as any can, so no process comes to the
# numbers of another: a draw adds 1 to the seed.
SPREAD = 0x9E3779B1
WORD = 2**32


class TorchTeam(Team):
    """One of several processes on PyTorch.

    Args:
        hosts: Which one.
        environment: With torchrun's variables: the place of this process on its machine.
    """

    def __init__(self, hosts: Hosts, environment: Mapping[str, str]) -> None:
        self.hosts = hosts
        self.rank, self.count = hosts.rank, hosts.count
        try:
            self.place = int(environment.get("LOCAL_RANK", 0))
            self.neighbours = int(environment.get("LOCAL_WORLD_SIZE", 1))
        except ValueError as error:
            raise ArgumentError(
                f"LOCAL_RANK and LOCAL_WORLD_SIZE are numbers, set by torchrun: {error}."
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
                    f"torch.distributed runs already in this process, as {dist.get_rank()} of "
                    f"{dist.get_world_size()}, and this is {self.rank} of {self.count}. Start a "
                    "process of its own for this run."
                )
            return self
        try:
            dist.init_process_group(
                "nccl" if on_gpu else "gloo",
                init_method=f"tcp://{self.hosts.place}" if not _has_store() else "env://",
                rank=self.rank,
                world_size=self.count,
                timeout=timedelta(seconds=PATIENCE),
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise TrainingError(
                f"The {self.count} hosts did not meet at {self.hosts.place} within {PATIENCE} "
                f"seconds: {str(error).splitlines()[0]}. See that all were started, each with a "
                "rank of its own and the same count, and that they reach the first one."
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
        if self.place >= there:
            raise ArgumentError(
                f"This is process {self.place} of this machine, counted from 0, and it has {there} "
                f"GPUs. Start {there} processes here: torchrun --nproc-per-node {there}."
            )
        torch.cuda.set_device(self.place)
        self._device = torch.device("cuda", self.place)

    def exchange(self, data: bytes) -> list[bytes]:
        """What every host gave."""
        own = torch.from_numpy(np.frombuffer(data, np.uint8).copy()).to(self._device)
        found = [torch.empty_like(own) for _ in range(self.count)]
        with lost(self):
            dist.all_gather(found, own)
        return [bytes(given.cpu().numpy()) for given in found]

    def equip(self, model: Any, optimizer: Any) -> None:
        """Gradients are averaged before the optimizer clips and uses them."""
        del model
        optimizer.average = self._average

    def _average(self, gradients: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        with torch.no_grad():
            flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
            dist.all_reduce(flat)  # errors are made plain by the loop: Keras would wrap a plain one
            flat /= self.count
            parts = flat.split([gradient.numel() for gradient in gradients])
            return [
                part.view(gradient.shape) for part, gradient in zip(parts, gradients, strict=True)
            ]

    def differ(self, model: Any) -> None:
        """Move the seeds of the first host to this one's."""
        for variable in model.variables:
            if variable.name == "seed_generator_state":
                seed, drawn = np.asarray(variable.value.cpu().numpy(), np.int64).tolist()
                moved = np.array([(seed + self.rank * SPREAD) % WORD, drawn % WORD], np.uint32)
                variable.assign(moved.view(np.int32).astype(str(variable.dtype)))

    def value(self, array: Any) -> Any:
        """What was given."""
        return array

    def predict(self, model: Any, inputs: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """The model's answer."""
        return ALONE.predict(model, inputs)

    def loss(self, model: Any, inputs: Sequence[NDArray[Any]]) -> float:
        """The model's loss."""
        return ALONE.loss(model, inputs)


def _has_store() -> bool:
    """Whether torchrun keeps the place where processes meet."""
    return bool(dist.is_torchelastic_launched())
