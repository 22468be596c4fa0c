import json
import os
import re
import socket
from pathlib import Path

import pytest

from fastfork import protocol
from fastfork.protocol import ControlError


def refusal(line):
    with pytest.raises(ControlError) as caught:
        protocol.read(line if isinstance(line, bytes) else json.dumps(line).encode())
    return str(caught.value)


@pytest.mark.parametrize(
    "request_",
    [{"command": "status"}, {"command": "status", "service": "web:app", "brief": True},
     {"command": "reload"}, {"command": "reload", "service": "a"},
     {"command": "scale", "workers": 0}, {"command": "scale", "workers": 4096, "service": "a"},
     {"command": "scale", "by": -4096}, {"command": "scale", "by": 4096, "service": "a"},
     {"command": "stop"}, {"command": "stop", "service": "a"},
     {"command": "restart"}, {"command": "restart", "service": "a"}])  # fmt: skip
def test_requests(request_):
    assert protocol.read(json.dumps(request_).encode()) == request_


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (b"", "a request must be one line of JSON"),
        (b"status", "a request must be one line of JSON"),
        (b"\xff\xfe", "a request must be one line of JSON"),
        (b"[" * 60_000, "a request must be one line of JSON"),
        ({}, "a request must be an object with a command"),
        (["status"], "a request must be an object with a command"),
        ({"command": "reboot"}, "there is no command 'reboot'"),
        ({"command": "Reload"}, "there is no command 'Reload' (perhaps 'reload' is meant)"),
        ({"command": ["status"]}, "there is no command a list"),
        ({"command": None}, "there is no command null"),
        ({"command": "status", "services": "a"},
         "a request to status has no key 'services' (perhaps 'service' is meant)"),
        ({"command": "reload", "workers": 3}, "a request to reload has no key 'workers'"),
        ({"command": "stop", "service": ""}, "'service' must be the name of a service, not ''"),
        ({"command": "stop", "service": None},
         "'service' must be the name of a service, not null"),
        ({"command": "stop", "service": ["a"]},
         "'service' must be the name of a service, not a list"),
        ({"command": "stop", "service": {}},
         "'service' must be the name of a service, not an object"),
        ({"command": "scale", "workers": -1},
         "'workers' must be a whole number from 0 to 4096, not -1"),
        ({"command": "scale", "workers": 4097},
         "'workers' must be a whole number from 0 to 4096, not 4097"),
        ({"command": "scale", "workers": "4"},
         "'workers' must be a whole number from 0 to 4096, not '4'"),
        ({"command": "scale", "workers": 4.0},
         "'workers' must be a whole number from 0 to 4096, not 4.0"),
        ({"command": "scale", "workers": True},
         "'workers' must be a whole number from 0 to 4096, not true"),
        ({"command": "scale", "by": 4097},
         "'by' must be a whole number from -4096 to 4096, not 4097"),
        ({"command": "scale", "by": -4097},
         "'by' must be a whole number from -4096 to 4096, not -4097"),
        ({"command": "scale"}, "a request to scale must have either 'workers' or 'by'"),
        ({"command": "scale", "workers": 1, "by": 1},
         "a request to scale must have either 'workers' or 'by'"),
        ({"command": "status", "brief": 1}, "'brief' must be true or false, not 1"),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_what_is_no_request(line, sentence):
    assert refusal(line) == sentence


@pytest.mark.parametrize(
    "request_",
    [{"command": "x" * 60_000}, {"command": 10**4000}, {"command": "status", "x" * 60_000: 1},
     {"command": "status", "service": ["x"] * 10_000}, {"command": "scale", "by": 10**4000},
     {"command": "scale", "by": "x" * 60_000}],
    ids=lambda value: str(list(value))[:20])  # fmt: skip
def test_a_sentence_is_short_whatever_was_sent(request_):
    assert len(refusal(request_)) < 200


def test_every_key_of_a_command_is_described():
    for command in protocol.COMMANDS.values():
        assert set(command.keys) <= set(protocol.KEYS)
        assert set(command.one_of) <= set(command.keys)


def test_the_peer():
    here, there = socket.socketpair()
    with here, there:
        assert protocol.peer(here) == (os.getpid(), os.geteuid())


# -- docs/control.md ---------------------------------------------------------------------
DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "control.md").read_text()


def test_the_document_has_every_command_and_key():
    for name, command in protocol.COMMANDS.items():
        (row,) = re.findall(rf"^\| `{name}` \| (.*) \| .* \|$", DOCUMENT, re.MULTILINE)
        if name != "restart":  # "the same" is its answer
            assert set(command.keys) <= set(re.findall(r"`(\w+)`", row))
    assert f"{protocol.MOST_WORKERS}" in DOCUMENT


def test_the_requests_in_the_document_are_some():
    found = re.findall(r"""^(?:echo ')?(\{"command": .*?\})(?:'.*)?$""", DOCUMENT, re.MULTILINE)
    assert len(found) == 5
    for request in found:
        protocol.read(request.encode())


def test_the_program_in_the_document(served, tmp_path):
    path = served(tmp_path / "s", lambda request: {"asked": request})
    (program,) = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    names = {}
    exec(program.replace("/run/nova.sock", str(path)), names)
    assert names["answer"] == {
        "asked": {"command": "scale", "service": "metadata", "workers": 8}}
