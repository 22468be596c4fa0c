import os
import socket
import time

import pytest

from fastfork import log
from fastfork.notify import Notifier

PATIENCE = 20.0


@pytest.fixture(params=["file", "abstract"])
def listening(request, tmp_path):
    """A socket as systemd has one, and what NOTIFY_SOCKET says of it."""
    name = str(tmp_path / "notify") if request.param == "file" else f"@fastfork-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE)
        sock.bind(name.replace("@", "\0", 1) if name.startswith("@") else name)
        yield sock, name


@pytest.fixture
def messages(capfd):
    log.set_up("debug")
    return lambda: capfd.readouterr().err


def say_everything(notifier):
    notifier.ready("serving")
    notifier.reloading()
    notifier.stopping()
    notifier.watchdog()
    notifier.main_pid(4711)
    notifier.status("hello")


def test_messages(listening):
    sock, name = listening
    notifier = Notifier.from_environ({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "3000000"})
    before = time.monotonic_ns() // 1000
    say_everything(notifier)
    after = time.monotonic_ns() // 1000
    assert sock.recv(4096) == b"READY=1\nSTATUS=serving"
    first, second = sock.recv(4096).split(b"\n")
    assert first == b"RELOADING=1" and second.startswith(b"MONOTONIC_USEC=")
    assert before <= int(second.partition(b"=")[2]) <= after
    assert [sock.recv(4096) for _ in range(4)] == [
        b"STOPPING=1", b"WATCHDOG=1", b"MAINPID=4711", b"STATUS=hello"]  # fmt: skip


def test_time_is_that_of_the_kernel_s_monotonic_clock():
    """MONOTONIC_USEC is CLOCK_MONOTONIC; Python promises only some monotonic clock."""
    assert "CLOCK_MONOTONIC)" in time.get_clock_info("monotonic").implementation


def test_a_status_is_one_line(listening):
    sock, name = listening
    notifier = Notifier(name)
    notifier.status("a\nMAINPID=1\r\u2028 ü \udce4")
    assert sock.recv(4096) == b"STATUS=a\\x0aMAINPID=1\\x0d\\u2028 \xc3\xbc \\udce4"
    notifier.ready("b\nSTOPPING=1")
    assert sock.recv(4096) == b"READY=1\nSTATUS=b\\x0aSTOPPING=1"


def test_without_a_socket_nothing_happens(messages):
    notifier = Notifier.from_environ({"WATCHDOG_USEC": "1000000", "OTHER": "1"})
    say_everything(notifier)
    assert notifier.interval is None and notifier.environ() == {}
    assert messages() == ""


def test_a_sender_of_nothing_without_a_watchdog(listening):
    sock, name = listening
    notifier = Notifier(name)
    notifier.watchdog()
    notifier.stopping()
    assert sock.recv(4096) == b"STOPPING=1"


@pytest.mark.parametrize(
    ("usec", "pid", "interval"),
    [
        ("30000000", None, 15.0), ("30000000", str(os.getpid()), 15.0), ("1", None, 0.5e-6),
        ("30000000", "1", None), (None, None, None), (None, str(os.getpid()), None),
        ("0", None, None), ("-5", None, None), ("x", None, None), ("", None, None),
    ],
    ids=lambda value: "ours" if value == str(os.getpid()) else None,
)  # fmt: skip
def test_interval(usec, pid, interval):
    environ = {"NOTIFY_SOCKET": "/absent", "WATCHDOG_USEC": usec, "WATCHDOG_PID": pid}
    environ = {name: value for name, value in environ.items() if value is not None}
    assert Notifier.from_environ(environ).interval == interval


def test_applications_do_not_see_the_variables_but_a_new_master_does():
    environ = {"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "2000000",
               "WATCHDOG_PID": str(os.getpid()), "OTHER": "1"}  # fmt: skip
    notifier = Notifier.from_environ(environ)
    assert environ == {"OTHER": "1"}
    assert notifier.environ() == {"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "2000000"}
    assert Notifier.from_environ(notifier.environ()).interval == notifier.interval == 1.0


def test_another_s_watchdog_is_not_passed_on():
    environ = {"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}
    assert Notifier.from_environ(environ).environ() == {"NOTIFY_SOCKET": "@n"}


@pytest.mark.parametrize(
    "name", ["/absent/notify", "relative", "vsock:2:1234", "@", "", "/" + "x" * 200, "@absent"]
)
def test_nobody_listens(name, messages):
    say_everything(Notifier(name, 1))
    said = messages().splitlines()
    assert len(said) == (6 if name else 0)
    assert all("[DEBUG] NOTIFY_SOCKET=" in line for line in said)


def test_a_listener_that_does_not_read_holds_nobody_up(listening, messages):
    _, name = listening
    notifier = Notifier(name)
    while "was not told STATUS=x" not in messages():  # a queue that is full
        notifier.status("x" * 1000)
    say_everything(notifier)
    assert "was not told STOPPING=1" in messages()


def test_no_descriptor_is_kept(listening):
    _, name = listening
    before = set(os.listdir("/proc/self/fd"))
    say_everything(Notifier(name))
    assert set(os.listdir("/proc/self/fd")) == before
