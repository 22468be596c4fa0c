"""What the kernel is told of a process, by processes that end in various orders."""

import os
import select
import signal
import subprocess
import sys

import pytest
from harness import PATIENCE

from fastfork import _core


def script(text, *arguments, **options):
    return subprocess.run(
        [sys.executable, "-c", "import os, sys, time\nfrom fastfork import _core\n" + text,
         *map(str, arguments)],
        capture_output=True, text=True, timeout=PATIENCE,
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)), **options)


@pytest.mark.parametrize("name, told", [
    ("fastfork worker", "fastfork worker"),
    ("fastfork mold", "fastfork mold"),
    ("0123456789abcdefg", "0123456789abcde"),
    ("", ""),
])
def test_name(name, told):
    done = script("_core.name_process(sys.argv[1])\n"
                  "print(open('/proc/self/comm').read(), end='')", name)
    assert (done.stdout, done.stderr) == (told + "\n", "")


@pytest.mark.parametrize("name", [None, b"bytes", 1])
def test_what_is_no_name(name):
    with pytest.raises(TypeError):
        _core.name_process(name)


ADOPTED = """
_core.adopt_orphans()
told, tell = os.pipe()
go, went = os.pipe()
child = os.fork()
if child == 0:
    if os.fork() == 0:
        os.close(went)
        os.read(go, 1)          # until the one in between is buried
        os.write(tell, b"%d" % os.getppid())
        os._exit(7)
    os._exit(0)
os.waitpid(child, 0)
os.close(went)
print(int(os.read(told, 99)) == os.getpid(), os.waitstatus_to_exitcode(os.wait()[1]))
"""


def test_orphans_become_children():
    done = script(ADOPTED)
    assert (done.stdout, done.stderr) == ("True 7\n", "")


def test_a_child_dies_with_its_parent():
    reads, writes = os.pipe()
    done = script("""
ready, say = os.pipe()
parent = os.getpid()
child = os.fork()
if child == 0:
    _core.die_with_parent(parent)
    os.close(1)
    os.close(2)
    os.write(say, b"x")
    time.sleep(3600)
os.read(ready, 1)
print(child)
""", pass_fds=[writes])
    os.close(writes)
    try:
        assert done.stderr == ""
        # The child alone has the other end now.
        assert select.select([reads], [], [], PATIENCE)[0], "it lives"
        assert os.read(reads, 1) == b""
    except BaseException:
        os.kill(int(done.stdout), signal.SIGKILL)
        raise
    finally:
        os.close(reads)


def test_one_whose_parent_is_gone_dies_at_once():
    done = script("_core.die_with_parent(os.getppid() + 1)\nprint('lives')")
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "")


OUTLIVING = """
import signal
_core.adopt_orphans()
told, tell = os.pipe()
go, went = os.pipe()
child = os.fork()
if child == 0:
    os.close(went)
    parent = os.getpid()
    if os.fork() == 0:
        os.write(tell, b"x")
        _core.outlive(parent)
        os.write(tell, f"{os.getppid()} {signal.sigpending()}".encode())
        os._exit(0)
    os.read(go, 1)
    os._exit(0)
os.read(told, 1)
os.close(went)
parent, pending = os.read(told, 99).split()
print(int(parent) == os.getpid(), pending.decode())
"""


def test_outliving_a_parent():
    done = script(OUTLIVING)
    assert (done.stdout, done.stderr) == ("True set()\n", "")


def test_outliving_a_parent_that_is_gone():
    done = script("import signal\n_core.outlive(os.getppid() + 1)\nprint(signal.sigpending(),"
                  " signal.pthread_sigmask(signal.SIG_BLOCK, ()))")
    assert (done.stdout, done.stderr) == ("set() set()\n", "")
