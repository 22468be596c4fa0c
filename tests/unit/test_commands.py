"""The commands, with a real socket and an answer of the test's own in place of a master."""

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fastfork import commands
from fastfork.control import Control, ControlError

ROOT = Path(__file__).resolve().parents[2]


class Fake:
    """A master that answers `commands` by a table, and `status` with one of `looks` after the
    other, the last one again and again.  What it is asked is in `asked`."""

    def __init__(self, answers=(), *looks):
        self.answers, self.looks = dict(answers), list(looks)
        self.asked = []

    def __call__(self, request):
        self.asked.append(request)
        if request["command"] != "status":
            answer = self.answers[request["command"]]
            if isinstance(answer, Exception):
                raise answer
            return answer
        services = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        if isinstance(services, Exception):
            raise services
        return {"version": "1", "pid": 1, "uptime": 1.0, "config": None, "services": services}

    @property
    def told(self):
        """What it is asked but for status."""
        return [request for request in self.asked if request["command"] != "status"]


def look(name="web", state="serving", generation=1, size=4, outcome=None):
    return {"name": name, "state": state, "generation": generation, "size": size, "listen": [],
            "outcome": outcome}  # fmt: skip


def good(generation):
    return {"generation": generation, "ok": True, "why": ""}


def bad(generation, why="Cannot serve web: no module named 'x'."):
    return {"generation": generation, "ok": False, "why": why}


def parse(*argv):
    parser = argparse.ArgumentParser()
    commands.add_parsers(parser.add_subparsers(dest="command"))
    return parser.parse_args([str(argument) for argument in argv])


def run(*argv):
    arguments = parse(*argv)
    assert arguments.run is commands.run
    return arguments.run(arguments)


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(commands, "LOOK", 0.001)


@pytest.fixture
def tell(served, tmp_path, capfd):
    """`tell(fake, *argv)`: exit status, output and errors of a command to that one server."""

    def command(fake, *argv):
        path = served(tmp_path / "s", fake)
        status = run(*argv, "--control", path)
        captured = capfd.readouterr()
        return status, captured.out, captured.err

    return command


NAME = f"The server with the pid {os.getpid()}"


# -- reload and restart ------------------------------------------------------------------
def test_a_reload(tell):
    fake = Fake({"reload": {"services": {"web": 3}}},
                [look(generation=2)], [look(generation=2, state="reloading")],
                [look(generation=3, state="reloading")],
                [look(generation=3, size=1, outcome=good(3))])  # fmt: skip
    assert tell(fake, "reload") == (0, "web: generation 3 serves, 1 worker\n", "")
    assert fake.told == [{"command": "reload"}]
    assert fake.asked[1:] == [{"command": "status", "brief": True}] * 4


@pytest.mark.parametrize("command", ["reload", "restart", "stop"])
def test_of_one_service(tell, command):
    done = ["web"] if command == "stop" else {"web": 2}
    state = "stopped" if command == "stop" else "serving"
    fake = Fake({command: {"services": done}}, [look(generation=2, state=state)])
    assert tell(fake, command, "web")[0] == 0
    assert fake.told == [{"command": command, "service": "web"}]


def test_each_service_is_told_when_it_is_over(tell):
    fake = Fake(
        {"reload": {"services": {"a": 2, "b": 5}}},
        [look("a", "reloading"), look("b", "reloading", 4), look("c")],
        [look("a", "reloading"), look("b", "serving", 5, outcome=good(5)), look("c")],
        [look("a", outcome=bad(2)), look("b", "serving", 5, outcome=good(5)), look("c")])
    assert tell(fake, "reload") == (
        1, "b: generation 5 serves, 4 workers\n"
        "a: not reloaded: Cannot serve web: no module named 'x'. Generation 1 goes on.\n", "")


def test_an_earlier_reload_is_another_matter(tell):
    fake = Fake({"reload": {"services": {"web": 3}}}, [look(outcome=bad(2), state="reloading")],
                [look(generation=3, outcome=good(3))])  # fmt: skip
    assert tell(fake, "reload")[0] == 0


def test_a_later_reload_by_somebody_else_counts(tell):
    fake = Fake({"reload": {"services": {"web": 3}}}, [look(generation=1, state="reloading")],
                [look(generation=4, outcome=good(4))])  # fmt: skip
    assert tell(fake, "reload") == (0, "web: generation 4 serves, 4 workers\n", "")


@pytest.mark.parametrize(
    ("last", "status", "told"),
    [(look(generation=2, outcome=bad(4, "no")), 1, "not reloaded: no. Generation 2 goes on."),
     (look(generation=3, outcome=bad(4, "no")), 0, "generation 3 serves, 4 workers"),
     (look(generation=3, outcome=bad(3, "no")), 1, "not reloaded: no. Generation 3 goes on."),
     (look(generation=3, outcome=good(2)), 0, "generation 3 serves, 4 workers")])  # fmt: skip
def test_what_counts(tell, last, status, told):
    fake = Fake({"reload": {"services": {"web": 3}}}, [look(state="reloading")], [last])
    assert tell(fake, "reload") == (status, f"web: {told}\n", "")


def test_a_service_that_a_reload_adds(tell):
    fake = Fake({"reload": {"services": {"new": 1}}}, [], [look("new", "starting", 1)],
                [look("new", "serving", 1)])  # fmt: skip
    assert tell(fake, "reload") == (0, "new: generation 1 serves, 4 workers\n", "")


@pytest.mark.parametrize(
    ("looks", "why"),
    [
        ([[look(state="reloading")], []], "it was stopped meanwhile."),
        ([[look(state="starting")], [look(state="stopped")]], "it was stopped meanwhile."),
        ([[look(state="failed", outcome=bad(2, "gone wrong"))]], "gone wrong."),
    ],
)
def test_services_that_are_not_restarted(tell, looks, why):
    fake = Fake({"restart": {"services": {"web": 2}}}, *looks)
    assert tell(fake, "restart") == (1, f"web: not restarted: {why}\n", "")


def test_a_service_that_has_failed_before_has_until_all_workers_are_ready(tell):
    fake = Fake({"reload": {"services": {"web": 2}}}, [look(state="failed", outcome=bad(1))],
                [look(state="failed", generation=2, outcome=bad(1))],
                [look(state="serving", generation=2, outcome=good(2))])  # fmt: skip
    assert tell(fake, "reload") == (0, "web: generation 2 serves, 4 workers\n", "")


@pytest.mark.parametrize("state", ["stopped", "failed"])
def test_what_was_before_is_no_outcome(tell, state):
    """The server's answer may come before it has begun."""
    fake = Fake({"reload": {"services": {"web": 2}}}, [look(state=state)],
                [look(state="starting")], [look(generation=2)])  # fmt: skip
    assert tell(fake, "reload") == (0, "web: generation 2 serves, 4 workers\n", "")


def test_a_server_that_is_busy_for_a_moment_is_asked_again(tell):
    fake = Fake({"reload": {"services": {"web": 2}}}, ControlError("not now"),
                [look(generation=2)])  # fmt: skip
    assert tell(fake, "reload") == (0, "web: generation 2 serves, 4 workers\n", "")


def test_not_waiting(tell):
    fake = Fake({"reload": {"services": {"a": 2, "b": 1}}, "stop": {"services": ["a"]}})
    assert tell(fake, "reload", "--no-wait") == (
        0, "a: generation 2 is on its way\nb: generation 1 is on its way\n", "")


def test_a_time_limit(tell):
    fake = Fake({"reload": {"services": {"a": 2, "b": 2, "c": 2}}},
                [look("a", "reloading"), look("b", outcome=good(2)), look("c", "reloading")])
    assert tell(fake, "reload", "--timeout", "20ms") == (
        1, "b: generation 1 serves, 4 workers\n",
        "fastfork: The reload of a, c is not over after 0.02 s; it goes on.\n")


def test_nothing_of_an_answer_reaches_the_terminal_raw(tell):
    fake = Fake({"reload": {"services": {"a\x1b": 2}}}, [look("a\x1b", outcome=bad(2, "\x9b\n"))])
    assert tell(fake, "reload") == (
        1, "a\\x1b: not reloaded: \\x9b\\x0a. Generation 1 goes on.\n", "")


# -- scale -------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("argv", "asked"),
    [(["web", "8"], {"service": "web", "workers": 8}), (["8"], {"workers": 8}),
     (["+2"], {"by": 2}), (["-2"], {"by": -2}), (["web", "-1"], {"service": "web", "by": -1}),
     (["web", "+0"], {"service": "web", "by": 0}), (["0"], {"workers": 0})])  # fmt: skip
def test_scale(tell, argv, asked):
    fake = Fake({"scale": {"service": "web", "before": 4, "after": 1}})
    assert tell(fake, "scale", *argv) == (0, "web: 1 worker, 4 before\n", "")
    assert fake.asked == [{"command": "scale", **asked}]


@pytest.mark.parametrize("number", ["x", "++1", "1.5", "", "\u0661", "4" * 10])
def test_what_is_no_number_of_workers(capsys, number):
    with pytest.raises(SystemExit):
        parse("scale", number)
    assert "is not usable: it must be a number of workers, or +N or -N" in capsys.readouterr().err


def test_too_many_workers_are_refused_by_the_server(tell):
    assert tell(Fake(), "scale", "4097") == (
        1, "", "fastfork: 'workers' must be a whole number from 0 to 4096, not 4097.\n")


# -- stop --------------------------------------------------------------------------------
def test_stop_a_service(tell):
    fake = Fake({"stop": {"services": ["web"]}}, [look(state="serving")],
                [look(state="stopping"), look("b")], [look(state="stopped"), look("b")])
    assert tell(fake, "stop", "web") == (0, "web: stopped\n", "")
    assert len(fake.asked) == 4


def test_a_stopped_service_may_not_be_shown_any_more(tell):
    fake = Fake({"stop": {"services": ["web"]}}, [look(state="stopping")], [look("b")])
    assert tell(fake, "stop", "web") == (0, "web: stopped\n", "")


def test_stop_and_do_not_wait(tell):
    fake = Fake({"stop": {"services": ["web"]}})
    assert tell(fake, "stop", "web", "--no-wait") == (0, "web: is stopping\n", "")
    assert len(fake.asked) == 1


def test_stop_the_server_and_do_not_wait(tell):
    fake = Fake({"stop": {"services": ["web"]}})
    assert tell(fake, "stop", "--no-wait") == (0, f"{NAME} stops.\n", "")


def test_a_stop_that_takes_too_long(tell):
    fake = Fake({"stop": {"services": ["web"]}}, [look(state="stopping")])
    assert tell(fake, "stop", "web", "--timeout", "10ms") == (
        1, "", "fastfork: The stop is not over after 0.01 s; it goes on.\n")


OTHER = """
import json, os, select, sys
from fastfork.control import Control
looks = json.loads(sys.argv[2])
over = False
def answer(request):
    global over
    if request["command"] == "status":
        services = looks.pop(0)
        over = not looks
        return {"services": services}
    over = request["command"] == "stop" and "service" not in request
    return {"services": ["web"] if request["command"] == "stop" else {"web": 2}}
server = Control(sys.argv[1], answer)
print("listening", flush=True)
while not over:
    poll = select.poll()
    for fd, events in server.fds().items():
        poll.register(fd, events)
    server.handle(dict(poll.poll()), 0.0)
server.close()
"""


@pytest.fixture
def dying(tmp_path, capfd):
    """`dying(looks, *argv)`: a command to a server in another process that ends when it is told to,
    or when it has said of its services what there is in `looks`."""
    started = []

    def command(looks, *argv):
        path = tmp_path / "dying"
        process = subprocess.Popen(
            [sys.executable, "-c", OTHER, str(path), json.dumps(looks)], stdout=subprocess.PIPE,
            env=dict(os.environ, PYTHONPATH=str(ROOT)))  # fmt: skip
        started.append(process)
        assert process.stdout.readline() == b"listening\n"
        status = run(*argv, "--control", path)
        captured = capfd.readouterr()
        name = f"The server with the pid {process.pid}"
        return status, captured.out.replace(name, "NAME"), captured.err.replace(name, "NAME")

    yield command
    for process in started:
        process.kill()
        process.communicate()


def test_stop_the_server(dying):
    assert dying([], "stop") == (0, "NAME has stopped.\n", "")


def test_a_server_that_ends_while_a_service_stops(dying):
    assert dying([[look(state="stopping")]], "stop", "web") == (0, "web: stopped\n", "")


def test_a_server_that_ends_during_a_reload(dying):
    assert dying([[look(state="reloading")]], "reload") == (
        1, "", "fastfork: NAME has ended before that was done.\n")


# -- refusals ----------------------------------------------------------------------------
@pytest.mark.parametrize("argv", [["stop"], ["stop", "web"], ["scale", "3"]])
def test_a_refusal(tell, argv):
    fake = Fake({argv[0]: ControlError("There is no service 'web'")})
    assert tell(fake, *argv) == (1, "", "fastfork: There is no service 'web'.\n")
    assert len(fake.asked) == 1


@pytest.mark.parametrize(
    ("command", "done"), [("reload", "reloaded"), ("restart", "restarted")])
def test_a_configuration_with_several_faults(tell, command, done):
    fake = Fake({command: ControlError("f.toml: one is wrong.\nf.toml: and\x1b another")})
    assert tell(fake, command) == (
        1, "", "fastfork: f.toml: one is wrong.\nfastfork: f.toml: and\\x1b another.\n"
        f"fastfork: Nothing is {done}, the{NAME[3:]} goes on as before.\n")
    assert len(fake.asked) == 1


def test_a_server_that_does_not_answer(tmp_path, capfd):
    assert run("reload", "--control", "x" * 200) == 1
    assert capfd.readouterr().err == (
        f"fastfork: The server at {'x' * 200} does not answer: AF_UNIX path too long.\n")


# -- which server ------------------------------------------------------------------------
COMMANDS = [["status"], ["reload"], ["restart"], ["stop"], ["scale", "2"]]


@pytest.mark.parametrize("argv", COMMANDS)
def test_no_server(auto, tmp_path, capfd, argv):
    file = tmp_path / "f.toml"
    file.write_text(f"[server]\ncontrol = '{tmp_path}/y'\n")
    auto.mkdir(0o700)
    dead = Control(auto / "5.sock", lambda request: {})
    dead._listener.socket.close()
    for which, sentence in [
        ([], f"No running server of this user was found (in {auto})."),
        (["--control", "auto"], f"No running server of this user was found (in {auto})."),
        (["--pid", 5], f"No running server of this user with the pid 5 was found (in {auto})."),
        (["--control", tmp_path / "x"], f"No server listens at {tmp_path / 'x'}."),
        (["-c", file], f"No server listens at {tmp_path / 'y'}."),
    ]:
        assert run(*argv, *which) == 3
        captured = capfd.readouterr()
        assert captured.out == "" and captured.err == f"fastfork: {sentence}\n"


def test_a_server_that_cannot_be_asked(tmp_path, capfd):
    file = tmp_path / "f.toml"
    for text, sentence in [
        ("[server]\ncontrol = 'none'", f"{file}: control = 'none' is not usable: such a server "
         "cannot be asked."),
        ("[server]\ncontrol = 3", f"{file}, [server]: control = 3 is not usable: "),
    ]:  # fmt: skip
        file.write_text(text)
        assert run("reload", "-c", file) == 2
        error = capfd.readouterr().err
        assert error.startswith(f"fastfork: {sentence}") and error.count("\n") == 1
    assert run("status", "--control", "none") == 2
    assert capfd.readouterr().err == (
        "fastfork: --control 'none' is not usable: such a server cannot be asked.\n")


def test_a_relative_path_in_a_file_counts_from_there(tmp_path, monkeypatch, served, capfd):
    served(tmp_path / "s", Fake({}, [look()]))
    (tmp_path / "f.toml").write_text("[server]\ncontrol = 's'\n[services.a]\nwrong = 1\n")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert run("status", "-c", "../f.toml") == 0


@pytest.fixture
def found(auto, served):
    """`found(*pids)`: servers with those pids in the directory of "auto"; what they are asked."""
    auto.mkdir(0o700)

    def start(*pids):
        fakes = {pid: Fake({"scale": {"service": f"web{pid}", "before": 1, "after": 2}},
                           [look(f"web{pid}")]) for pid in pids}  # fmt: skip
        for pid, fake in fakes.items():
            served(auto / f"{pid}.sock", fake)
        return fakes

    return start


def test_the_only_one(found, capfd):
    found(11)
    assert run("scale", "2") == 0
    assert capfd.readouterr().out == "web11: 2 workers, 1 before\n"


def test_one_of_several(found, auto, tmp_path, capfd):
    found(11, 12)
    named, unnamed = tmp_path / "named.toml", tmp_path / "unnamed.toml"
    named.write_text(f"[server]\ncontrol = '{auto}/12.sock'\n")
    unnamed.write_text("[defaults]\n")
    for which in (["--pid", 12], ["--control", auto / "12.sock"], ["-c", named]):
        assert run("scale", *which, "2") == 0
        assert capfd.readouterr().out == "web12: 2 workers, 1 before\n"
        assert run("status", *which) == 0
        out = capfd.readouterr().out
        assert "web12" in out and "web11" not in out
    assert run("scale", "2", "-c", unnamed) == 2


def test_status_shows_all_of_them(found, capfd):
    found(11, 12)
    assert run("status") == 0
    out = capfd.readouterr().out
    assert out.index("web11 on") < out.index("web12 on")


@pytest.mark.parametrize("argv", COMMANDS[1:])
def test_other_commands_are_for_one(found, capfd, argv):
    fakes = found(11, 12)
    assert run(*argv) == 2
    captured = capfd.readouterr()
    assert captured.out == "" and captured.err == (
        "fastfork: There are several servers of this user, with the pids 11, 12: name one with "
        "--pid, --control or -c.\n")
    assert not any(fake.asked for fake in fakes.values())


@pytest.mark.parametrize("argv", COMMANDS)
def test_there_is_one_way_to_name_it(capsys, argv):
    for which in (["--pid", "1", "--control", "x"], ["--control", "x", "-c", "y"]):
        with pytest.raises(SystemExit):
            parse(*argv, *which)
        assert "not allowed with argument" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [(["status", "--pid", "x"], "--pid: 'x' is not usable: it must be a whole number"),
     (["stop", "--timeout", "soon"], "--timeout: 'soon' is not usable: it must be a duration such "
      "as 90s, 5m or 2.5 (seconds)")])  # fmt: skip
def test_flags_that_cannot_be_used(capsys, argv, sentence):
    with pytest.raises(SystemExit):
        parse(*argv)
    assert sentence in capsys.readouterr().err


def test_the_flags_that_are_known():
    parser = argparse.ArgumentParser()
    subparsers = parser.add_subparsers(dest="command")
    commands.add_parsers(subparsers)
    assert set(commands.FLAGS) == set(subparsers.choices)
    for name, one in subparsers.choices.items():
        flags = {flag for action in one._actions for flag in action.option_strings}
        long = {flag for flag in flags if flag.startswith("--")}
        assert long == {*commands.FLAGS[name], "--help"}


# -- clean endings -----------------------------------------------------------------------
def command(*argv, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "fastfork", *map(str, argv)],
        env=dict(os.environ, PYTHONPATH=str(ROOT)), stderr=subprocess.PIPE, text=True,
        # Who runs the tests in the background may ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **options)  # fmt: skip


@pytest.mark.parametrize("argv", [["reload"], ["stop", "web"]])
def test_an_interrupt(served, tmp_path, argv):
    looked = threading.Event()

    def answer(request):
        if request["command"] == "status":
            looked.set()
            return {"services": [look(state="reloading")]}
        return {"services": {"web": 2}}

    path = served(tmp_path / "s", answer)
    with command(*argv, "--control", path, stdout=subprocess.PIPE) as process:
        assert looked.wait(20)
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=20)
    assert (process.returncode, out, error) == (
        130, "", "fastfork: Interrupted; what the server has been told to do goes on.\n")


def test_a_reader_that_has_seen_enough(served, tmp_path):
    fake = Fake({"reload": {"services": {"a": 2, "b": 2}}}, [look("a", outcome=good(2))],
                [look("b", outcome=bad(2))])  # fmt: skip
    path = served(tmp_path / "s", fake)
    reading, writing = os.pipe()
    os.close(reading)
    with command("reload", "--control", path, stdout=writing) as process:
        os.close(writing)
        _, error = process.communicate()
    assert (process.returncode, error) == (1, "")  # what it has found out all the same


def test_a_disk_that_is_full(served, tmp_path):
    path = served(tmp_path / "s", Fake({}, [look()]))
    with (
        open("/dev/full", "w") as full,
        command("status", "--control", path, stdout=full) as process,
    ):
        _, error = process.communicate()
    assert (process.returncode, error) == (
        1, "fastfork: Standard output cannot be written: No space left on device.\n")
