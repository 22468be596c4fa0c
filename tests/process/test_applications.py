"""What real applications do while they are imported and when they end (TRAPS: each was met)."""

import json
import os
import signal

import pytest
from harness import alive, children, refused, wait_for

HERE = os.path.dirname(__file__)


@pytest.fixture
def web(start, application):
    """`web(text, *flags)` serves web:app of this text, which may import small_apps."""

    def run(text, *flags, **kwargs):
        return start("web:app", *flags, cwd=application(text), env={"PYTHONPATH": HERE}, **kwargs)

    return run


def facts(server):
    return json.loads(server.get("/").body)


def test_sys_argv_is_the_program_s_name_alone(web):
    server = web("from small_apps import process as app\n", "--keep-alive", "5s")
    (program,) = facts(server)["argv"]
    assert os.path.basename(program) == "__main__.py"


def test_a_module_that_parses_sys_argv(web):
    text = """
import argparse
from small_apps import process as app
parser = argparse.ArgumentParser()
parser.add_argument("--config-file", default="none")
options = parser.parse_args()
"""
    web(text)
    server = web(text, "--pyargv", "--config-file '/etc/my file.conf'")
    assert facts(server)["argv"][1:] == ["--config-file", "/etc/my file.conf"]
    server = web(text, "--pyargv=--config-fiel x", wait=False)
    assert server.wait() == 2
    assert "SystemExit(2)" in server.stderr


def test_the_working_directory_is_importable(web, tmp_path):
    (tmp_path / "neighbour.py").write_text("from small_apps import pid as app\n")
    assert web("from neighbour import app\n").get("/").status == 200


SIGNALS = """
import os, signal, sys
from small_apps import pid as app
def mine(number, frame):
    os.write(2, b"mine %d\\n" % number)
    os._exit(99)
for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT):
    signal.signal(number, mine)
def report(number, frame):
    os.write(2, b"status report\\n")
signal.signal(signal.SIGUSR2, report)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
"""


def test_handlers_left_by_the_import_do_not_disturb_ours(web):
    server = web(SIGNALS, workers=2)
    workers = server.workers()
    for number in (signal.SIGHUP, signal.SIGINT):
        for pid in workers:
            os.kill(pid, number)
    assert int(server.get("/").body) in workers
    assert server.stop() == 0
    assert "mine" not in server.stderr


def test_an_application_s_handler_for_a_signal_we_do_not_need_stays(web):
    server = web(SIGNALS)
    (worker,) = server.workers()
    os.kill(worker, signal.SIGUSR2)
    server.wait_stderr("status report")
    assert int(server.get("/").body) == worker


def test_workers_leave_through_the_interpreter_s_exit(web, gate):
    """atexit runs, a pool of threads is drained, a thread that is no daemon is waited for."""
    server = web("""
import atexit, os, threading
from concurrent.futures import ThreadPoolExecutor
from small_apps import answer
atexit.register(lambda: os.write(2, b"atexit ran\\n"))
pool = ThreadPoolExecutor(1)
drained = threading.Event()
def work(gate):
    open(gate).read()
    os.write(2, b"pool drained\\n")
    drained.set()
def thread():
    drained.wait()
    os.write(2, b"thread ended\\n")
def app(environ, start_response):
    pool.submit(work, environ["QUERY_STRING"])
    threading.Thread(target=thread).start()
    return answer(start_response, "ok")
""")
    assert server.get(f"/?{gate.path}").body == b"ok"
    gate.reached()
    server.signal(signal.SIGTERM)
    server.wait_stderr("SIGTERM: stopping")
    gate.open()
    assert server.wait() == 0
    said = [line for line in server.stderr.splitlines() if not line.startswith("[")]
    assert said == ["pool drained", "thread ended", "atexit ran"]


def test_the_port_is_free_while_an_application_takes_its_time_to_end(web, gate):
    server = web(f"""
import atexit
from small_apps import pid as app
atexit.register(lambda: open({str(gate.path)!r}).read())
""")
    server.signal(signal.SIGTERM)
    gate.reached()
    wait_for(lambda: refused(server.address))       # the mold, being killed, may have it a moment
    gate.open()
    assert server.wait() == 0


def test_the_master_runs_no_exit_code_of_the_application(web):
    server = web("""
import atexit, os
from small_apps import pid as app
atexit.register(lambda: os.write(2, b"atexit in %d\\n" % os.getpid()))
""", workers=2)
    workers = server.workers()
    assert server.stop() == 0
    lines = [line for line in server.stderr.splitlines() if line.startswith("atexit")]
    assert sorted(lines) == sorted(f"atexit in {pid}" for pid in workers)


def test_the_application_s_logging_does_not_touch_ours(web):
    server = web("""
import logging, logging.config
logging.config.dictConfig({"version": 1, "disable_existing_loggers": True})
logging.disable(logging.CRITICAL)
logging.basicConfig(stream=open("app.log", "w"))
def app(environ, start_response):
    raise RuntimeError("to be logged")
""")
    assert server.get("/").status == 500
    server.wait_stderr("RuntimeError: to be logged")


def test_an_application_that_replaces_standard_error_does_not_hide_our_log(web):
    server = web("""
import io, sys
sys.stderr = io.StringIO()
def app(environ, start_response):
    raise RuntimeError("to be logged")
""")
    assert server.get("/").status == 500
    server.wait_stderr("RuntimeError: to be logged")


def test_random_numbers_differ_between_workers(web, tmp_path):
    server = web("""
import os, random
from small_apps import pid as app
from fastfork import hooks
@hooks.on_worker_start
def draw(worker):
    with open(f"drawn-{os.getpid()}", "w") as file:
        file.write(str(random.random()))
""", workers=4)
    drawn = {(tmp_path / f"drawn-{pid}").read_text() for pid in server.workers()}
    assert len(drawn) == 4


def test_programs_that_the_application_starts_get_no_socket_and_default_signals(web):
    server = web("""
import subprocess, sys
from small_apps import answer
CODE = "import os, signal; print(len(os.listdir('/proc/self/fd')), " \\
       "[signal.getsignal(n) is not signal.SIG_IGN for n in (1, 2, 10, 12, 15)])"
def app(environ, start_response):
    done = subprocess.run([sys.executable, "-c", CODE], close_fds=False, capture_output=True)
    return answer(start_response, done.stdout.decode())
""")
    # 0, 1, 2 and the directory that is being listed
    assert server.get("/").body == b"4 [True, True, True, True, True]\n"


FORKS = """
import os, time
from small_apps import answer
def fork():
    child = os.fork()
    if child == 0:
        time.sleep(3600)
    return str(child)
{}
def app(environ, start_response):
    return answer(start_response, {})
"""


@pytest.mark.parametrize(
    ("at_import", "in_request"), [("child = fork()", "child"), ("", "fork()")]
)
def test_a_process_that_the_application_forks_is_no_worker(web, at_import, in_request):
    """At import it also holds a copy of the report pipe, whose end must not be waited for.
    Whenever it was forked, it does not keep the port, and SIGTERM ends it."""
    server = web(FORKS.format(at_import, in_request))
    child = int(server.get("/").body)
    try:
        (parent,) = server.molds() if at_import else server.workers()
        assert children(parent) == [child]
        assert server.stop() == 0
        assert alive(child)
        with pytest.raises(ConnectionRefusedError):
            server.connect()
        os.kill(child, signal.SIGTERM)
        wait_for(lambda: not alive(child))
    finally:
        if alive(child):
            os.kill(child, signal.SIGKILL)
