import mmap
import os
import subprocess
import sys

import pytest

from fastfork import memory

MIB = 1 << 20
HOG = """
import mmap, sys
block = mmap.mmap(-1, 64 << 20)
block.write(b"x" * len(block))
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def hog():
    """A process that has written to 64 MiB."""
    with subprocess.Popen([sys.executable, "-c", HOG], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


@pytest.mark.parametrize("how", ["pss", "rss"])
def test_what_a_process_has_written_to(hog, how):
    assert 64 * MIB < memory.measure(hog.pid, how) < 128 * MIB


def test_pss_shares_what_is_shared_and_rss_does_not():
    block = mmap.mmap(-1, 64 * MIB)
    block.write(b"x" * len(block))
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writing)
        sum(block[::mmap.PAGESIZE])  # now its page table has them as well
        os.read(reading, 1)  # until the parent has closed its end
        os._exit(0)
    try:
        os.close(reading)
        pss = rss = 0
        while rss < 64 * MIB:
            pss, rss = memory.measure(pid, "pss"), memory.measure(pid, "rss")
        assert pss < rss - 28 * MIB
    finally:
        os.close(writing)
        os.waitpid(pid, 0)


@pytest.mark.parametrize("how", ["pss", "rss"])
def test_a_process_that_has_ended(how):
    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert memory.measure(process.pid, how) is None  # it was not waited for
        process.wait()
        assert memory.measure(process.pid, how) is None


def test_a_kernel_without_smaps_rollup(monkeypatch, tmp_path):
    (tmp_path / "12").mkdir()
    (tmp_path / "12" / "statm").write_text("2490 300 180 1 0 88 0\n")
    monkeypatch.setattr(memory, "PROC", tmp_path)
    assert memory.measure(12, "pss") == memory.measure(12, "rss") == 300 * mmap.PAGESIZE
    assert memory.measure(13, "pss") is None


def test_a_process_that_is_not_ours(monkeypatch, tmp_path):
    """The kernel refuses to show it; rss, which it shows to everybody, is not taken for pss."""
    (tmp_path / "12" / "smaps_rollup").mkdir(parents=True)  # cannot be read, even by root
    (tmp_path / "12" / "statm").write_text("2490 300 180 1 0 88 0\n")
    monkeypatch.setattr(memory, "PROC", tmp_path)
    assert memory.measure(12, "pss") is None
    assert memory.measure(12, "rss") == 300 * mmap.PAGESIZE
