import os
import signal

import pytest

from fastfork import config, log
from fastfork.master import Master, Service, describe_end
from fastfork.sockets import AddressError


def service(*bind):
    return Service(config.load({"app": "hello:app", "workers": "2", "bind": bind}))


def child(exit_status):
    """A child of this process that has ended and was not waited for."""
    pid = os.fork()
    if pid == 0:
        os._exit(exit_status)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return pid


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0, "ended with exit status 0"),
        (3 << 8, "ended with exit status 3"),
        (signal.SIGKILL, "was killed by SIGKILL"),
        (signal.SIGSEGV | 0x80, "was killed by SIGSEGV"),
        (50, "was killed by signal 50"),
    ],
)
def test_describe_end(status, words):
    assert describe_end(status) == words


def test_children_that_are_not_ours_are_left_alone():
    master = Master([service("127.0.0.1:0")])
    stranger = child(7)
    master._reap()
    assert os.waitpid(stranger, 0) == (stranger, 7 << 8)


def test_process_1_buries_strangers_quietly(capfd):
    master = Master([service("127.0.0.1:0")])
    master.pid = 1
    strangers = [child(7), child(0)]
    master._reap()
    for stranger in strangers:
        with pytest.raises(ChildProcessError):
            os.waitpid(stranger, 0)
    assert capfd.readouterr().err == ""


def test_workers_auto(monkeypatch):
    monkeypatch.setattr("fastfork.cpus.usable", lambda: 5)
    assert Service(config.load({"app": "hello:app"})).roster.size == 5


def test_if_one_address_cannot_be_bound_none_stays_bound(tmp_path):
    path = tmp_path / "s"
    master = Master([service(f"unix:{path}", "192.0.2.1:0")])
    with pytest.raises(AddressError, match=r"192\.0\.2\.1:0"):
        master.run()
    assert not path.exists()


def test_a_socket_file_that_cannot_be_removed_is_a_warning(tmp_path, monkeypatch, capfd):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    given = service(f"unix:{tmp_path}/s")
    given.bind()
    log.set_up()
    monkeypatch.setattr(os, "unlink", refuse)
    given.unbind()
    assert f"Cannot remove unix:{tmp_path}/s: Permission denied." in capfd.readouterr().err
    assert given.listeners == []


def test_a_worker_that_cannot_be_forked_is_a_failed_boot(monkeypatch, capfd):
    def refuse():
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refuse)
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    log.set_up()
    try:
        assert Master([service("127.0.0.1:0")]).run() == 2
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in before.items():
            if signal.getsignal(number) is not handler:
                signal.signal(number, handler)
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert "Cannot start a worker for hello:app: Resource temporarily unavailable." in said
