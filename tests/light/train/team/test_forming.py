from __future__ import annotations

import pytest

from convnext.errors import ArgumentError
from convnext.train.team.base import ALONE
from convnext.train.team.forming import form_team

LAUNCHED = {"MASTER_ADDR": "a", "MASTER_PORT": "29500", "RANK": "1", "WORLD_SIZE": "2"}


def test_one_device_of_one_process_needs_no_team():
    for backend in ("torch", "jax", "tensorflow"):
        assert form_team(backend, environment={}) is ALONE
        assert form_team(backend, devices=1, environment={}) is ALONE
    alone = {**LAUNCHED, "RANK": "0", "WORLD_SIZE": "1"}
    assert form_team("torch", environment=alone) is ALONE
    assert (
        form_team("jax", environment=LAUNCHED) is ALONE
    )  # torchrun's variables apply to PyTorch only


@pytest.mark.parametrize(
    ("backend", "options", "environment", "said"),
    [
        ("jax", {"devices": 0}, {}, "devices is 1 or more"),
        ("tensorflow", {"devices": 2}, {}, "KERAS_BACKEND=jax"),
        ("tensorflow", {"hosts": "a:1,0,2"}, {}, "KERAS_BACKEND=jax"),
        ("torch", {"devices": 4}, {}, "torchrun --nproc-per-node 4"),
        ("torch", {"hosts": "b:1,0,2"}, LAUNCHED, "Leave out --hosts"),
        ("torch", {}, {"RANK": "0", "WORLD_SIZE": "2"}, "not MASTER_ADDR and MASTER_PORT"),
        ("torch", {}, {**LAUNCHED, "RANK": "2"}, "are 0 to 1; got 2"),
    ],
)
def test_teams_that_cannot_be(backend, options, environment, said):
    with pytest.raises(ArgumentError, match=said):
        form_team(backend, environment=environment, **options)
