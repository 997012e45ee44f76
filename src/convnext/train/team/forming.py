"""Chooses the team of a run from the backend, the options and torchrun's environment.

`team_jax` and `team_torch` are lazy imports.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from convnext.errors import ArgumentError
from convnext.train.team.base import ALONE, Hosts, Team

__all__ = ["form_team"]


def form_team(
    backend: str,
    devices: int | None = None,
    hosts: str | Hosts | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Team:
    """Choose the team of a run; it is not connected yet.

    Args:
        backend: Keras' backend.
        devices: Number of devices of this host; by default one, or with `hosts` on JAX all.
        hosts: `host:port,rank,count`; torchrun sets it by itself.
        environment: Environment variables.

    Raises:
        ArgumentError: The backend has no such team, or the options contradict each other.
    """
    if devices is not None and devices < 1:
        raise ArgumentError(f"devices is 1 or more; got {devices}.")
    if isinstance(hosts, str):
        hosts = Hosts.parse(hosts)
    if backend == "torch":
        launched = _launched(environment)
        if launched and hosts and launched != hosts:
            raise ArgumentError(
                f"torchrun set host {launched.rank} of {launched.count} at {launched.endpoint}, "
                "and --hosts differs. Leave out --hosts."
            )
        if (devices or 1) > 1:
            raise ArgumentError(
                f"On PyTorch a process has one device, and torchrun starts one for each: torchrun "
                f"--nproc-per-node {devices} -m convnext train ..., without --devices."
            )
        hosts = launched or hosts
        if hosts is None or hosts.count == 1:
            return ALONE
        from convnext.train.team.torch_processes import TorchTeam

        return TorchTeam(hosts, environment)
    if hosts is None and (devices or 1) == 1:
        return ALONE
    if backend != "jax":
        raise ArgumentError(
            f"On {backend} a run uses one device. Set KERAS_BACKEND=jax for several devices or "
            "hosts, or KERAS_BACKEND=torch and start with torchrun; see docs/scale_training.md."
        )
    from convnext.train.team.jax_devices import JaxTeam

    return JaxTeam(hosts, devices)


def _launched(environment: Mapping[str, str]) -> Hosts | None:
    """Hosts as set by torchrun, or another launcher that sets the same variables."""
    names = ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE")
    if "RANK" not in environment or "WORLD_SIZE" not in environment:
        return None
    lacking = [name for name in names if name not in environment]
    if lacking:
        raise ArgumentError(
            f"RANK and WORLD_SIZE are set, as torchrun does, but not {' and '.join(lacking)}. "
            "Start with torchrun, set all four, or unset them for a run of one process."
        )
    address, port, rank, count = (environment[name] for name in names)
    return Hosts.parse(f"{address}:{port},{rank},{count}")
