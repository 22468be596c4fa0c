import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastfork import terminal

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = "/\x1b]0;owned\x07\r\n\u202e\u2028\x9b31m\udcff\u00e9 \U0001f600"
SHOWN = r"/\x1b]0;owned\x07\x0d\x0a\u202e\u2028\x9b31m\udcff\xe9 \U0001f600"


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "-"), (7, "7"), ("a b", "a b"), (HOSTILE, SHOWN)])  # fmt: skip
def test_printable(value, shown):
    assert terminal.printable(value) == shown


def test_saying_and_complaining(capfd):
    terminal.say(f"a{HOSTILE}")
    terminal.complain(f"b{HOSTILE}")
    captured = capfd.readouterr()
    assert captured.out == f"a{SHOWN}\n"
    assert captured.err == f"fastfork: b{SHOWN}\n"


def says(prepare):
    """A process that prints with a strange standard output: its exit status and errors."""
    text = f"import os, sys\n{prepare}\nfrom fastfork import terminal\n"
    text += "terminal.say('1')\nterminal.say('2')\n"
    done = subprocess.run([sys.executable, "-c", text], stderr=subprocess.PIPE, text=True,
                          env=dict(os.environ, PYTHONPATH=str(ROOT)))  # fmt: skip
    return done.returncode, done.stderr


def test_a_reader_that_has_seen_enough():
    assert says("r, w = os.pipe(); os.close(r); os.dup2(w, 1)") == (0, "")


def test_no_standard_output():
    assert says("sys.stdout = None") == (0, "")


def test_a_disk_that_is_full():
    status, error = says("os.dup2(os.open('/dev/full', os.O_WRONLY), 1)")
    assert status == 1
    assert error.splitlines()[-1] == "fastfork.terminal.OutputError: No space left on device"
    assert "Exception ignored" not in error
