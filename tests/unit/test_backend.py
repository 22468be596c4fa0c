"""What the handlers of bench/concurrency.py wait for."""

import importlib.util
import os
import socket
import time

import pytest
from harness import PATIENCE, ROOT


@pytest.fixture(scope="module")
def module():
    spec = importlib.util.spec_from_file_location("bench_backend", ROOT / "bench/backend.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def backend(module):
    with module.Backend(min(os.sched_getaffinity(0))) as backend:
        yield backend
    assert backend.process.returncode == 0


def connect(module, backend):
    return socket.create_connection((module.HOST, backend.port), PATIENCE)


def test_every_line_is_answered_after_its_time(module, backend):
    begin = time.perf_counter()
    applications = [connect(module, backend) for _ in range(50)]
    for application in applications:
        application.sendall(module.QUESTION)
    for application in applications:
        assert application.recv(100) == module.ANSWER
    assert time.perf_counter() - begin >= module.WAIT
    applications[0].sendall(module.QUESTION * 2)
    answers = b""
    while len(answers) < 2 * len(module.ANSWER):
        answers += applications[0].recv(100)
    assert answers == module.ANSWER * 2
    for application in applications:
        application.close()


def test_an_application_that_ends_while_it_waits(module, backend):
    with connect(module, backend) as application:
        application.sendall(module.QUESTION)
    with connect(module, backend) as other:
        other.sendall(module.QUESTION)
        assert other.recv(100) == module.ANSWER
