import os

import pytest

from fastfork import cpus


def tree(tmp_path, membership, files):
    """A fake /proc/self/cgroup and /sys/fs/cgroup."""
    own = tmp_path / "cgroup"
    own.write_text(membership)
    mounted = tmp_path / "fs"
    mounted.mkdir()
    for name, text in files.items():
        path = mounted / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return own, mounted


@pytest.mark.parametrize(
    ("membership", "files", "cores"),
    [
        # version 2
        ("0::/app\n", {"app/cpu.max": "200000 100000\n"}, 2.0),
        ("0::/app\n", {"app/cpu.max": "max 100000\n"}, None),
        ("0::/\n", {}, None),
        # a parent's quota holds too, the smallest counts
        ("0::/a/b\n", {"a/b/cpu.max": "400000 100000\n", "a/cpu.max": "150000 100000\n"}, 1.5),
        ("0::/a/b\n", {"a/b/cpu.max": "50000 100000\n", "a/cpu.max": "max 100000\n"}, 0.5),
        # in a container the path is the host's, and only the root is to be seen
        ("0::/system.slice/docker-1.scope\n", {"cpu.max": "300000 100000\n"}, 3.0),
        ("0::/../../other\n", {"cpu.max": "300000 100000\n"}, 3.0),
        # version 1
        ("4:cpu,cpuacct:/app\n",
         {"cpu,cpuacct/app/cpu.cfs_quota_us": "250000\n",
          "cpu,cpuacct/app/cpu.cfs_period_us": "100000\n"}, 2.5),
        ("4:cpu,cpuacct:/app\n",
         {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ("3:cpuset:/x\n2:cpu:/y\n0::/\n",
         {"cpu/y/cpu.cfs_quota_us": "100000\n", "cpu/y/cpu.cfs_period_us": "50000\n",
          "cpuset/x/cpu.cfs_quota_us": "1\n", "cpuset/x/cpu.cfs_period_us": "1\n"}, 2.0),
        # both at once, version 2 under "unified"
        ("1:cpu:/\n0::/u\n",
         {"unified/u/cpu.max": "100000 100000\n", "cpu/cpu.cfs_quota_us": "400000\n",
          "cpu/cpu.cfs_period_us": "100000\n"}, 1.0),
        # what cannot be read is no quota
        ("0::/app\n", {"app/cpu.max": "garbage\n"}, None),
        ("0::/app\n", {"app/cpu.max": "100000 0\n"}, None),
    ],
)  # fmt: skip
def test_quota(tmp_path, membership, files, cores):
    assert cpus.quota(*tree(tmp_path, membership, files)) == cores


def test_no_cgroups_at_all(tmp_path):
    assert cpus.quota(tmp_path / "absent", tmp_path) is None


@pytest.mark.parametrize(
    ("cores", "quota", "usable"),
    [(8, None, 8), (8, 2.0, 2), (8, 1.5, 2), (8, 0.1, 1), (2, 16.0, 2), (1, 0.01, 1)],
)
def test_limited(cores, quota, usable):
    assert cpus.limited(cores, quota) == usable


def test_usable_respects_affinity(monkeypatch):
    monkeypatch.setattr(cpus, "quota", lambda: None)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 2, 5})
    assert cpus.usable() == 3
