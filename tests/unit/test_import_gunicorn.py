import argparse
import contextlib
import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from fastfork import deployment, import_gunicorn, tomlfile
from fastfork.import_gunicorn import NAMES, read
from fastfork.kinds import ConfigError

ROOT = Path(__file__).resolve().parents[2]
SYNC = {
    "workers": 1, "request_timeout": "30s", "bind": "127.0.0.1:8000",
    "forwarded_allow_ips": "127.0.0.1,::1", "forwarded_fields": "x-forwarded-proto",
}  # fmt: skip
ENVIRONMENT = ("GUNICORN_CMD_ARGS", "WEB_CONCURRENCY", "PORT", "FORWARDED_ALLOW_IPS")


class Imported:
    """What came of an import: `status`, the `text` of the file and its tables, `said` on
    standard error (without what begins every line)."""

    def __init__(self, status, path, err):
        assert all(line.startswith("fastfork: ") for line in err.splitlines())
        self.status = status
        self.said = [line.removeprefix("fastfork: conf.py: ") for line in err.splitlines()]
        self.text = path.read_text() if path.exists() else ""
        document = tomlfile.read(str(path)) if path.exists() else {}
        self.services = document.get("services", {})
        self.server, self.defaults = document.get("server", {}), document.get("defaults", {})
        self.web = self.services.get("web", {})
        if path.exists():  # the server takes it
            flags = {} if self.services else {"app": "hello:app"}
            deployment.load(flags, file=str(path), environ={}, here=False)


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    """`run("text of gunicorn.conf.py")`."""
    monkeypatch.chdir(tmp_path)
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)

    def run(text):
        (tmp_path / "conf.py").write_text(text)
        output = tmp_path / "fastfork.toml"
        output.unlink(missing_ok=True)
        status = import_gunicorn.run(argparse.Namespace(file="conf.py", output=str(output)))
        return Imported(status, output, capfd.readouterr().err)

    return run


@pytest.fixture
def convert(run):
    """Settings of an application."""
    return lambda text="": run(f'wsgi_app = "hello:app"\n{text}\n')


def test_a_deployment(run):
    made = run("""\
import multiprocessing
wsgi_app = "shop.wsgi:make('a', b=1)"
proc_name = "shop"
bind = ["0.0.0.0:8000", "unix:/run/shop.sock"]
workers = 2 + 3
threads = 1
timeout = 120
graceful_timeout = 20
keepalive = 5
max_requests = 1000
max_requests_jitter = 50
limit_request_line = 4094
limit_request_fields = 50
limit_request_field_size = 32768
backlog = 512
chdir = "/srv/shop"
pythonpath = "lib,/opt/lib"
raw_env = ["TZ=UTC", "A=b=c"]
user = "shop"
group = 33
initgroups = True
umask = 0o007
pidfile = "/run/shop.pid"
accesslog = "-"
errorlog = "-"
loglevel = "WARNING"
preload_app = True
forwarded_allow_ips = "10.0.0.0/8"
header_map = "refuse"
""")
    assert (made.status, made.said) == (0, [
        "workers = 5 was computed on this machine; auto is one for each core that may be used, "
        "wherever it runs."])  # fmt: skip
    assert made.server == {"pid": "/run/shop.pid", "log_level": "warning"}
    assert made.defaults == {}
    assert made.services == {"shop": {
        "app": "shop.wsgi:make('a', b=1)", "chdir": "/srv/shop",
        "python_path": ["/srv/shop/lib", "/opt/lib"], "preload": "on", "workers": 5,
        "max_requests": 1000, "max_requests_jitter": 50, "request_timeout": "120s",
        "liveness_timeout": "120s", "graceful_timeout": "20s", "keep_alive": "5s",
        "max_request_line": "4094", "max_fields": 50, "max_head": "80KiB",
        "bind": ["0.0.0.0:8000", "unix:/run/shop.sock"], "backlog": 512, "user": "shop",
        "group": "33", "socket_mode": "0770", "socket_owner": "shop:33",
        "forwarded_allow_ips": "10.0.0.0/8,unix", "forwarded_fields": "x-forwarded-proto",
        "header_map": "refuse", "environment": {"TZ": "UTC", "A": "b=c"}, "access_log": "-",
    }}  # fmt: skip
    assert ("workers = 5  # workers, computed when the file was run, on this machine\n"
            in made.text)  # fmt: skip
    assert 'keep_alive = "5s"  # keepalive\n' in made.text


def test_what_gunicorn_does_by_default(convert):
    made = convert()
    assert (made.status, made.said) == (0, [])
    assert made.web == {"app": "hello:app", **SYNC}
    assert 'request_timeout = "30s"  # timeout, gunicorn\'s default\n' in made.text


@pytest.mark.parametrize("text", ["", "\n# nothing\n", "import os\nx = 1\nWORKERS = 7\n"])
def test_a_file_without_an_application(run, text):
    made = run(text)
    assert (made.status, made.said) == (0, [
        "The file names no application: say fastfork serve APP -c FILE, with this as FILE."])
    assert (made.services, made.defaults) == ({}, SYNC)


def test_what_the_environment_says(run, monkeypatch):
    for name, value in zip(ENVIRONMENT, ("--bind :1", "7", "5000", "10.1.1.1"), strict=True):
        monkeypatch.setenv(name, value)
    made = run("")
    assert made.defaults["workers"] == 7
    assert made.defaults["bind"] == "0.0.0.0:5000"
    assert made.defaults["forwarded_allow_ips"] == "10.1.1.1"
    assert "GUNICORN_CMD_ARGS is set in the environment, what it says was not read." in made.said


def test_every_setting_is_known_once():
    assert len(NAMES) == len(set(NAMES)) == 120


# -- one setting -------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("workers = '0x10'", {"workers": 16}),
        ("workers = True", {"workers": 1}),
        ("timeout = 0", {"request_timeout": "0s", "liveness_timeout": "0s"}),
        ("keepalive = 0", {"keep_alive_requests": 1}),
        ("keepalive = 2", {"keep_alive": "2s"}),
        ("graceful_timeout = 0", {"graceful_timeout": "0s"}),
        ("limit_request_line = 0", {"max_request_line": "1MiB", "max_head": "1072KiB"}),
        ("limit_request_line = 99999", {"max_request_line": "8190"}),
        ("limit_request_fields = 0", {"max_fields": 32768}),
        ("limit_request_field_size = 0", {"max_head": "64KiB"}),
        ("preload_app = False", {"preload": "off"}),
        ("preload_app = 'true'", {"preload": "on"}),
        ("raw_env = 'A=b'", {"environment": {"A": "b"}}),
        ("raw_paste_global_conf = ['a=b', 'c=d\\=e']", {"global_conf": {"a": "b", "c": "d=e"}}),
        ("header_map = 'Drop'", {"header_map": "drop"}),
        ("accesslog = 'a.log'", {"access_log": "a.log"}),
        (f"access_log_format = {import_gunicorn.COMMON!r}", {"access_log_format": "common"}),
        (f"access_log_format = {import_gunicorn.COMBINED!r}", {"access_log_format": "combined"}),
        ("user = 0", {"user": "0"}),
        ("proxy_protocol = True",
         {"proxy_protocol": "auto", "forwarded_allow_ips": "127.0.0.1,::1"}),
        ("proxy_protocol = 'v2'\nproxy_allow_ips = '10.0.0.1'",
         {"proxy_protocol": "v2", "forwarded_allow_ips": "10.0.0.1"}),
        ("proxy_protocol = 'v1'\nproxy_allow_ips = '10.0.0.1'\nforwarded_allow_ips = '::1'",
         {"proxy_protocol": "v1", "forwarded_allow_ips": "10.0.0.1,::1"}),
        ("forwarded_allow_ips = '*'", {"forwarded_allow_ips": "*"}),
        ("worker_class = 'gthread'\nworker_connections = 99",
         {"max_connections": 99, "greenlets": None, "threads": None, "green": None}),
        ("threads = 4", {"threads": 4, "greenlets": None, "green": None, "request_timeout": None}),
        ("worker_class = 'gthread'\nthreads = 4\nworker_connections = 99",
         {"threads": 4, "max_connections": 99}),
        ("threads = 1", {"threads": None, "request_timeout": "30s"}),
        ("worker_class = 'gevent'", {"green": "gevent", "greenlets": None, "threads": None}),
        ("worker_class = 'gevent_pywsgi'\nworker_connections = 99",
         {"green": "gevent", "greenlets": 99, "max_connections": 99}),
        ("worker_class = 'gevent'\nworker_connections = 70000",
         {"greenlets": 65535, "max_connections": 70000}),
    ],
)  # fmt: skip
def test_settings(convert, text, expected):
    made = convert(text)
    assert made.status == 0
    assert {name: made.web.get(name) for name in expected} == expected
    assert not any("computed" in line for line in made.said)


@pytest.mark.parametrize("name", ["forwarded_allow_ips", "forwarded_fields"])
def test_nobody_is_believed(convert, name):
    assert name not in convert("forwarded_allow_ips = ''").web


@pytest.mark.parametrize(
    ("given", "bind"),
    [
        ("'127.0.0.1'", "127.0.0.1:8000"), ("'Example.org:80'", "Example.org:80"),
        ("''", "127.0.0.1:8000"), ("['']", "0.0.0.0:8000"), ("':9000'", ":9000"),
        ("'tcp://1.2.3.4:5'", "1.2.3.4:5"), ("'fd://3'", "fd://3"), ("'[::1]'", "[::1]:8000"),
        ("['[::]:80', '0.0.0.0:80']", ["0.0.0.0:80", "[::]:80"]),
        ("'unix:/run/x'", "unix:/run/x"), ("'unix:///run/x'", "unix:/run/x"),
        ("'unix:x'", "unix:x"), ("'unix:\\0x'", "unix:@x"), ("['a:1', 'a:1']", "a:1"),
    ],
)  # fmt: skip
def test_bind(convert, given, bind):
    made = convert(f"bind = {given}")
    assert made.web["bind"] == bind
    assert made.web.get("socket_mode") == ("0777" if "unix:" in bind and "@" not in bind else None)


def test_a_unix_socket_that_looks_abstract(convert, tmp_path):
    assert convert("bind = 'unix:@x'").web["bind"] == f"unix:{tmp_path}/@x"


@pytest.mark.parametrize(
    ("text", "app"),
    [
        ("wsgi_app = 'hello'", "hello:application"),
        ("paste = 'a.ini'", "paste:a.ini#main"),
        ("paste = 'config:/etc/a.ini#b'", "paste:/etc/a.ini#b"),
        ("chdir = '/srv'\npaste = 'a.ini'", "paste:/srv/a.ini#main"),
    ],
)
def test_applications(run, text, app):
    made = run(text)
    assert made.said == []
    assert made.web["app"] == app


def test_paste_goes_before_wsgi_app(convert):
    made = convert("paste = 'a.ini'")
    assert made.web["app"] == "paste:a.ini#main"
    assert made.said == ["wsgi_app is not carried over: gunicorn serves what paste names, if there "
                         "is one."]  # fmt: skip


def test_relative_paths_count_from_where_they_did(run):
    made = run("wsgi_app = 'a'\nchdir = 'sub'\npythonpath = 'lib'\npidfile = 'x.pid'\n"
               "accesslog = 'log'\nbind = 'unix:s'\n")  # fmt: skip
    here = os.getcwd()
    assert made.web["chdir"] == "sub"
    assert made.web["python_path"] == [f"{here}/sub/lib"]
    assert made.web["access_log"] == f"{here}/sub/log"
    assert made.web["bind"] == f"unix:{here}/sub/s"
    assert made.server == {"pid": f"{here}/sub/x.pid"}


@pytest.mark.parametrize(
    ("text", "control"),
    [("control_socket = '/run/x'", "/run/x"), ("control_socket_disable = True", "none")],
)
def test_control(convert, text, control):
    assert convert(text).server == {"control": control}


EVENTLET = (
    "Eventlet is not offered, gevent is written in its place: it does the same for an application "
    "that does not call eventlet itself; for one that does, take threads, or more workers, instead "
    "of green.")  # fmt: skip
OTHER = ("worker_class is not carried over: workers of that kind are not offered, and as it is "
         "written one runs one handler at a time; threads, or green = gevent, let it run several.")
ASGI = "worker_class is not carried over: fastfork serves WSGI, not ASGI."


@pytest.mark.parametrize(
    ("value", "green", "said"),
    [
        ("'sync'", None, None),
        ("None", None, None),
        ("'gunicorn.workers.sync.SyncWorker'", None, None),
        ("type('SyncWorker', (), {})", None, None),
        ("'gthread'", None, []),
        ("'gevent'", "gevent", []),
        ("'gevent_wsgi'", "gevent", []),
        ("'gunicorn.workers.ggevent.GeventWorker'", "gevent", []),
        ("'gunicorn.workers.ggevent.GeventPyWSGIWorker'", "gevent", []),
        ("'eventlet'", "gevent", [EVENTLET]),
        ("'gunicorn.workers.geventlet.EventletWorker'", "gevent", [EVENTLET]),
        ("'tornado'", None, [OTHER]),
        ("type('Mine', (), {})", None, [OTHER]),
        ("'uvicorn.workers.UvicornWorker'", None, [ASGI]),
        ("'asgi'", None, [ASGI]),
    ],
)
def test_worker_classes(convert, value, green, said):
    """`said` of those that are not sync; whose timeout alone limits requests."""
    made = convert(f"worker_class = {value}\ntimeout = 60")
    assert (made.status, made.said) == (0, said or [])
    assert made.web.get("green") == green
    assert ("request_timeout" in made.web) == (said is None)
    assert made.web["liveness_timeout"] == "60s"


def test_how_many_handlers_a_worker_has(convert):
    text = convert("worker_class = 'gevent'\nworker_connections = 70000").text
    assert "fastfork[gevent]" in text and "\n# More than 65535 there cannot be.\n" in text
    assert "More than" not in convert("worker_class = 'gevent'\nworker_connections = 65535").text
    assert "\nthreads = 4  # threads\n" in convert("threads = 4").text


# -- what is left ------------------------------------------------------------------------
LEFT = [
    ("threads = 5000", "threads",
     "threads = 5000 is not usable: it must be a whole number, from 1 to 4096"),
    ("worker_class = 'gevent'\nthreads = 4", "threads",
     "gunicorn takes it for gthread workers only"),
    ("worker_connections = 9", "worker_connections",
     "gunicorn takes it for gthread, gevent and eventlet workers only"),
    ("proxy_allow_ips = '::1'", "proxy_allow_ips", "proxy_protocol is off"),
    ("umask = 18", "umask", "gunicorn's is for unix sockets, and there are none; that of fastfork "
     "is for the files of workers"),
    ("access_log_format = '%(h)s'", "access_log_format",
     "the formats are common and combined, and no others; it is combined"),
    ("secure_scheme_headers = {'X-SSL': 'on'}", "secure_scheme_headers",
     "the scheme is that of X-Forwarded-Proto, or of Forwarded, and of no other field"),
    ("proc_name = 'my shop'", "proc_name", "the name of a service has at most 64 letters, digits, "
     "underscores, dots and hyphens; the service is called web"),
    ("backlog = 70000", "backlog",
     "backlog = 70000 is not usable: it must be a whole number, from 1 to 65535"),
    ("loglevel = 'loud'", "loglevel", "log_level = 'loud' is not usable: it must be one of debug, "
     "info, warning, error, critical"),
    ("raw_env = ['A-B=c']", "raw_env", "environment = {'A-B': 'c'} is not usable: it must be "
     "NAME=VALUE, the name of letters, digits and underscores"),
    ("raw_paste_global_conf = ['a\\\\=b=c']", "raw_paste_global_conf",
     "global_conf = {'a=b': 'c'} is not usable: it must be NAME=VALUE"),
    ("chdir = '\\udcff'", "chdir", "chdir = '\\udcff' is not usable: it must be Unicode"),
    ("def post_fork(server, worker): pass", "post_fork", "register a function with "
     "fastfork.hooks.on_worker_start instead, or name it in the setting on_worker_start; it is "
     "called with a fastfork.hooks.Worker"),
    ("on_exit = 'mod.function'", "on_exit", "the master runs nobody's code; let the unit or script "
     "that starts fastfork do it"),
    ("pre_request = print", "pre_request",
     "wrap the application in a WSGI middleware that does it"),
    ("daemon = True", "daemon", "fastfork stays in the foreground, let systemd or the like start "
     "it"),
    ("errorlog = 'x'", "errorlog", "fastfork writes its log to standard error, send that where it "
     "should go"),
    ("reload = 'true'", "reload",
     "fastfork does not watch files; fastfork reload, or SIGHUP, loads the new code"),
    ("statsd_host = 'a:1'", "statsd_host",
     "fastfork has no statsd; fastfork status --json has the numbers"),
    ("dirty_apps = ['a:B']", "dirty_apps", "fastfork has no such workers, use a task queue"),
    ("logconfig_dict = {'a': {'b': print}}", "logconfig_dict",
     "fastfork does not set up Python's logging, let the application do it"),
    ("strip_header_spaces = True", "strip_header_spaces", "such requests are always refused"),
    ("http_protocols = 'h2,h1'", "http_protocols",
     "fastfork speaks HTTP/1, put a proxy that speaks HTTP/2 in front"),
    ("ciphers = 'x'", "ciphers", "fastfork has no TLS, put a proxy that has it in front"),
    ("import ssl\nssl_version = ssl.PROTOCOL_TLS_CLIENT", "ssl_version",
     "fastfork has no TLS, put a proxy that has it in front"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "name", "why"), LEFT)
def test_what_is_left_is_named(convert, text, name, why):
    made = convert(text)
    assert made.status == 0
    assert made.said == [f"{name} is not carried over: {why}."]
    assert f"\n# - {name}: {why}\n" in made.text


def test_without_an_application_there_is_no_name(run):
    assert run("proc_name = 'x'").said[0] == (
        "proc_name is not carried over: it would be the name of a service, and without an "
        "application there is none here.")


@pytest.mark.parametrize(
    "text",
    ["daemon = False\nreload = 0\nerrorlog = '-'\nlogconfig_dict = {}\ncertfile = None",
     "sendfile = True\nhttp_protocols = 'h1'\nsyslog_facility = 'user'\ncontrol_socket_mode = 384",
     "import ssl\ncert_reqs = ssl.CERT_NONE\nssl_version = ssl.PROTOCOL_TLS",
     "secure_scheme_headers = {'x-forwarded-protocol': 'ssl', 'X-Forwarded-Proto': 'https', "
     "'X-FORWARDED-SSL': 'on'}"],
)  # fmt: skip
def test_what_is_as_by_default_is_not_mentioned(convert, text):
    assert convert(text).said == []


def test_tls(convert):
    made = convert("certfile = 'x'\nkeyfile = 'y'\nbind = ':443'")
    tls = "fastfork has no TLS, put a proxy that has it in front"
    assert made.said == [
        f"keyfile is not carried over: {tls}.", f"certfile is not carried over: {tls}.",
        "As it is written, fastfork speaks plain HTTP on :443.",
    ]  # fmt: skip
    assert f"\n# gunicorn served this with TLS: {tls}.\nbind =" in made.text


def test_groups(convert):
    sentence = "Workers get all the groups of their user, as with initgroups."
    assert convert("user = 'x'").said == [sentence]
    assert convert("user = 'x'\ninitgroups = True").said == []


# -- what is wrong -----------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        *((f"workers = {value}", f"workers = {shown} is not usable, for gunicorn neither: it must "
           "be a whole number, at least 0.") for value, shown in [
              ("-1", "-1"), ("2.5", "2.5"), ("'x'", "'x'"), ("None", "None"),
              ("1 << 64", "some int"), ("print", "print()"), ("object()", "some object")]),
        ("chdir = print", "chdir = print() is not usable, for gunicorn neither: it must be some "
         "text."),
        ("chdir = 5", "chdir = 5 is not usable, for gunicorn neither: it must be some text."),
        ("preload_app = 'x'", "preload_app = 'x' is not usable, for gunicorn neither: it must be "
         "True or False."),
        ("bind = [1]", "bind = [1] is not usable, for gunicorn neither: it must be a list of "
         "texts."),
        ("raw_env = ['A']", "raw_env = ['A'] is not usable, for gunicorn neither: it must be a "
         "list of NAME=VALUE."),
        ("raw_paste_global_conf = ['A']", "raw_paste_global_conf = ['A'] is not usable, for "
         "gunicorn neither: it must be a list of NAME=VALUE."),
        ("user = True", "user = True is not usable, for gunicorn neither: it must be a name or a "
         "number."),
        ("proxy_protocol = 'x'", "proxy_protocol = 'x' is not usable, for gunicorn neither: it "
         "must be off, v1, v2 or auto."),
        ("secure_scheme_headers = 'x'", "secure_scheme_headers = 'x' is not usable, for gunicorn "
         "neither: it must be a dictionary."),
        ("header_map = 'x'", "header_map = 'x' is not usable, for gunicorn neither: it must be "
         "drop, refuse or dangerous."),
        ("bind = 'a:b'", "bind 'a:b' is not an address: 'b' is not a port number."),
        ("bind = 'a:70000'", "bind 'a:70000' is not an address: a port is a number from 0 to "
         "65535."),
        ("bind = 'unix:'", "bind 'unix:' is not an address: the path is missing."),
        ("bind = 'fd://x'", "bind 'fd://x' is not an address: write fd://N with the number of the "
         "descriptor."),
        ("wsgi_app = 'a b'", "wsgi_app 'a b:application' is not usable: it must be pkg.mod:attr, "
         "pkg.mod:factory(), pkg.mod or paste:FILE#NAME."),
    ],
)  # fmt: skip
def test_what_gunicorn_would_not_take(convert, text, sentence):
    made = convert(text)
    assert (made.status, made.said, made.text) == (2, [sentence], "")


# -- a file that misbehaves --------------------------------------------------------------
@pytest.fixture
def conf(tmp_path):
    """`conf(text)` writes a file and returns its path."""

    def write(text):
        path = tmp_path / "conf.py"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return write


def wrong(path, **more):
    with pytest.raises(ConfigError) as caught:
        read(path, **more)
    beginning, text = f"{path!r} cannot be used: ", str(caught.value)
    assert text.startswith(beginning)
    return text.removeprefix(beginning)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("1/0", "line 1: ZeroDivisionError: division by zero."),
        ("\nimport nowhere_at_all", "line 2: ModuleNotFoundError: No module named "
         "'nowhere_at_all'."),
        ("def f():\n  raise KeyError\nf()\n", "line 2: KeyError."),
        ("a = (\n", "line 1: SyntaxError: '(' was never closed."),
        ("raise SystemExit(3)", "line 1: SystemExit: 3."),
        ("import sys; sys.exit('no\\nmore')", "line 1: SystemExit: no."),
        ("raise KeyboardInterrupt", "line 1: KeyboardInterrupt."),
        ("class X(Exception):\n def __str__(self): 1/0\nraise X", "line 3: X."),
        ("import os; os._exit(0)", "it ends the process that runs it, with exit status 0."),
        ("import os; os._exit(7)", "it ends the process that runs it, with exit status 7."),
        ("import os; os.abort()", "it was killed by SIGABRT."),
        ("import os; os.kill(os.getpid(), 9)",
         "it was killed, or has closed what it was to answer on."),
        ("import os; os.closerange(0, 1000); import time; time.sleep(1000)",
         "it was killed, or has closed what it was to answer on."),
        ("pythonpath = 'x' * 10_000_000", "what it sets is longer than 1 MiB."),
        ("import os; os.write = None", "it ends the process that runs it, with exit status 1."),
        *((f"import os\nfor fd in range(3, 99):\n try: os.write(fd, b'{line}\\n')\n"
           " except OSError: pass", "it writes to descriptors that are not its own.")
          for line in ("{]", "[]", "{}", "5", '{"settings": 5}', "[" * 9999)),
        (b"\x7fELF\x02\0\0\xff", None),
    ],
)  # fmt: skip
def test_a_file_that_does_not_come_to_its_end(conf, text, why):
    said = wrong(conf(text))
    assert said == why or (why is None and said.endswith("."))
    assert "\n" not in said


def test_a_file_that_cannot_be_read(tmp_path):
    assert wrong(str(tmp_path / "x")) == "No such file or directory."
    assert wrong(str(tmp_path)) == "Is a directory."
    assert wrong("/dev/zero") == "it has more than 16 MiB."
    assert wrong("a\0b") == "no process can be started for it (embedded null byte)."


def gone(pid):
    """Wait for the end of a process that is not ours."""
    with contextlib.suppress(ProcessLookupError):
        fd = os.pidfd_open(pid)
        try:
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            return bool(poll.poll(20_000))
        finally:
            os.close(fd)
    return True


def test_a_file_that_never_ends(conf, tmp_path):
    path = conf(f"import os\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
                "while True:\n  pass\n")  # fmt: skip
    assert wrong(path, patience=1.0) == "it is still running after 1 seconds."
    assert gone(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize("text", [
    "print('x' * 100_000_000)",
    "import os\nwhile True:\n  if os.write(2, b'x' * 100_000_000): break",
    "import sys; sys.stdin.read()",
    "import threading, time; threading.Thread(target=time.sleep, args=(1000,)).start()",
    "import os; os.fork()",
    "import os; os.closerange(0, 3)",
    "import json; json.dumps = None",
])  # fmt: skip
def test_what_does_not_matter(conf, capfd, text):
    found = read(conf(f"{text}\nworkers = 3\n"))
    assert found.settings == {"workers": {"is": 3}}
    assert capfd.readouterr() == ("", "")


def test_a_copy_of_it_says_nothing(conf):
    # The copy comes to the end of the file first.
    found = read(conf("import os\npid = os.fork()\nif pid: os.waitpid(pid, 0)\n"
                      "workers = 3 if pid else 5\n"))  # fmt: skip
    assert found.settings == {"workers": {"is": 3}}


def test_what_it_starts_is_ended(conf):
    found = read(conf("import os, time\nworkers = os.fork()\nif not workers: time.sleep(1000)\n"))
    assert gone(found.settings["workers"]["is"])


def test_without_standard_input_and_output(conf, tmp_path):
    """Then the pipe to the process that runs the file gets their numbers."""
    output = tmp_path / "fastfork.toml"
    command = [sys.executable, "-m", "fastfork", "import-gunicorn", conf("workers = 3\n"),
               "-o", str(output)]  # fmt: skip
    subprocess.run(["sh", "-c", 'exec "$@" <&- >&-', "sh", *command], check=True, cwd=ROOT)
    assert "\nworkers = 3  # workers\n" in output.read_text()


def test_what_was_computed(conf):
    found = read(conf(
        "import os\nbind = 'a'\nworkers = 2\nworkers += 1\nbacklog = 3\nif os:\n  backlog = 4\n"
        "timeout = int('5')\nraw_env = ['a=b']\nkeepalive = graceful_timeout = -1\n"
        "def post_fork(server, worker): pass\n"))  # fmt: skip
    assert found.written == {"bind", "raw_env", "keepalive", "graceful_timeout"}
    assert found.settings["post_fork"] == {"callable": "post_fork"}
    assert found.settings["workers"] == {"is": 3}


def test_it_runs_where_gunicorn_would_have_run_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "settings_of_mine.py").write_text("backlog = 7\n")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "conf.py").write_text(
        "from settings_of_mine import backlog\nproc_name = __name__ + __file__\n"
        "import importlib.util, os\nchdir = os.getcwd()\n"
        "reload = importlib.util.find_spec('import_gunicorn') is not None\n")  # fmt: skip
    found = read("etc/conf.py")
    assert found.settings == {
        "backlog": {"is": 7}, "proc_name": {"is": "__config__etc/conf.py"},
        "chdir": {"is": str(tmp_path)}, "reload": {"is": False}}  # fmt: skip
    assert not (tmp_path / "__pycache__").exists()


def test_nothing_in_a_file_gets_out_of_its_line(convert):
    made = convert("errorlog = 'x'\nproc_name = 'a]\\n[services.b]'\nchdir = '/a\\n[x]\\n#\\x1b'\n"
                   "raw_env = ['A=\"\\'\\\\\\n']")  # fmt: skip
    assert list(made.services) == ["web"]
    assert made.web["chdir"] == "/a\n[x]\n#\x1b"
    assert made.web["environment"] == {"A": "\"'\\\n".strip()}
    assert len(made.said) == 2


def test_a_file_that_cannot_be_used(run):
    made = run("1/0")
    assert (made.status, made.text) == (2, "")
    assert made.said == [
        "fastfork: 'conf.py' cannot be used: line 1: ZeroDivisionError: division by zero."]
