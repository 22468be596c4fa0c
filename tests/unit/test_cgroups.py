from pathlib import Path

import pytest

from fastfork import cgroups
from fastfork.cgroups import Group


@pytest.mark.parametrize(
    ("membership", "expected"),
    [
        ("0::/a/b\n", [(2, "a/b"), (2, "a"), (2, ""), (2, ""),
                       (2, "unified/a/b"), (2, "unified/a"), (2, "unified"), (2, "unified")]),
        ("0::/../x\n", [(2, ""), (2, "unified")]),
        ("4:cpu,memory:/a\n3:pids:/b\n",
         [(1, "cpu,memory/a"), (1, "cpu,memory"), (1, "cpu,memory"),
          (1, "memory/a"), (1, "memory"), (1, "memory")]),
        ("1:name=systemd:/a:b\n", []),
    ],
)  # fmt: skip
def test_groups(tmp_path, membership, expected):
    own = tmp_path / "cgroup"
    own.write_text(membership)
    found = cgroups.groups("memory", own, Path("/g"))
    assert list(found) == [Group(version, Path("/g") / path) for version, path in expected]


def test_without_cgroups(tmp_path):
    assert list(cgroups.groups("memory", tmp_path / "absent")) == []
