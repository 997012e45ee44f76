import os

import pytest

from convnext.processors import available_processors

HERE = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@pytest.fixture
def bound_to_eight(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def machine(root, cgroup, files):
    """The files that Linux shows a process about its quotas."""
    for name, text in {"proc/self/cgroup": cgroup, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_this_machine():
    assert 1 <= available_processors() <= HERE


@pytest.mark.parametrize(
    ("cgroup", "files", "expected"),
    [
        ("", {}, 8),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "max 100000\n"}, 8),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "270000 100000\n"}, 2),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "1600000 100000\n"}, 8),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "nonsense"}, 8),
        # The tightest of all that it lies in, and a path that only the host knows.
        (
            "0::/pod/one\n",
            {
                "sys/fs/cgroup/pod/one/cpu.max": "max 100000",
                "sys/fs/cgroup/pod/cpu.max": "300000 100000",
            },
            3,
        ),
        ("0::/docker/abc\n", {"sys/fs/cgroup/cpu.max": "400000 100000"}, 4),
        # Version 1, with the controllers it has.
        (
            "4:cpu,cpuacct:/docker/abc\n3:cpuset:/\n",
            {
                "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_quota_us": "500000",
                "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_period_us": "100000",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
            },
            5,
        ),
        (
            "3:cpuset:/\n",
            {
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            8,
        ),
    ],
)
@pytest.mark.usefixtures("bound_to_eight")
def test_a_quota(tmp_path, cgroup, files, expected):
    assert available_processors(machine(tmp_path, cgroup, files)) == expected


@pytest.mark.usefixtures("bound_to_eight")
def test_no_such_files(tmp_path):
    assert available_processors(tmp_path) == 8
