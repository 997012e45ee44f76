import os

import pytest

from convnext.processors import available_processors, processor_flags, processor_name

HERE = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@pytest.fixture
def bound_to_eight(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def machine(root, cgroup, files):
    """The files with Linux' cgroup quotas."""
    for name, text in {"proc/self/cgroup": cgroup, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_processors_of_this_machine_are_counted():
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
def test_processors_are_counted_without_files_of_the_system(tmp_path):
    assert available_processors(tmp_path) == 8


def test_name_and_flags_of_a_processor_are_those_of_the_first(tmp_path):
    first = "model name\t: Abacus 9000\nflags\t\t: fpu avx2\n"
    root = machine(tmp_path, "", {"proc/cpuinfo": f"{first}\nmodel name: another\nflags: amx\n"})
    assert processor_name(root) == "Abacus 9000"
    assert processor_flags(root) == {"fpu", "avx2"}


def test_an_arm_processor_calls_its_flags_features(tmp_path):
    root = machine(tmp_path, "", {"proc/cpuinfo": "processor\t: 0\nFeatures\t: asimd bf16\n"})
    assert processor_flags(root) == {"asimd", "bf16"}


def test_other_systems_have_a_processor_name_without_flags(tmp_path):
    assert processor_flags(tmp_path) == frozenset()
    assert isinstance(processor_name(tmp_path), str)
