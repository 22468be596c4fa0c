import os
import signal

import pytest

from fastfork import deployment, log, recipe
from fastfork.family import Family
from fastfork.handle import describe_end
from fastfork.master import Master
from fastfork.notify import Notifier
from fastfork.service import Service
from fastfork.sockets import AddressError, Passed


def given(*bind, **more):
    return {"app": "hello:app", "workers": "2", "bind": bind, "control": "none", **more}


def service(*bind, **more):
    (wanted,) = deployment.load(given(*bind, **more)).services
    return Service(recipe.make(wanted), Family())


def master(*bind, **more):
    def load():
        return deployment.load(given(*bind, **more))

    return Master(load(), load, passed=Passed(), notifier=Notifier())


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


def test_strangers_are_buried_quietly(capfd):
    """Orphans of workers, which the master adopts."""
    strangers = [child(7), child(0)]
    master("127.0.0.1:0")._reap()
    for stranger in strangers:
        with pytest.raises(ChildProcessError):
            os.waitpid(stranger, 0)
    assert capfd.readouterr().err == ""


def test_workers_auto(monkeypatch):
    monkeypatch.setattr("fastfork.cpus.usable", lambda: 5)
    assert service(workers="auto").roster.size == 5


def test_if_one_address_cannot_be_bound_none_stays_bound(tmp_path):
    path = tmp_path / "s"
    with pytest.raises(AddressError, match=r"192\.0\.2\.1:0"):
        master(f"unix:{path}", "192.0.2.1:0").run()
    assert not path.exists()


def test_a_socket_file_that_cannot_be_removed_is_a_warning(tmp_path, monkeypatch, capfd):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    bound = service(f"unix:{tmp_path}/s")
    bound.bind(Passed())
    log.set_up()
    monkeypatch.setattr(os, "unlink", refuse)
    bound.unbind()
    assert f"Cannot remove unix:{tmp_path}/s: Permission denied." in capfd.readouterr().err
    assert bound.listeners() == []


@pytest.mark.parametrize(("preload", "what"), [("on", "mold"), ("off", "worker")])
def test_a_process_that_cannot_be_forked_is_a_failed_boot(monkeypatch, capfd, preload, what):
    def refuse():
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refuse)
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    log.set_up()
    try:
        assert master("127.0.0.1:0", preload=preload).run() == 2
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in before.items():
            if signal.getsignal(number) is not handler:
                signal.signal(number, handler)
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert f"Cannot start a {what} for hello:app: Resource temporarily unavailable." in said
