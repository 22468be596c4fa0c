import getpass
import os
import re
from pathlib import Path

import pytest

from fastfork import deployment
from fastfork.config import TABLE
from fastfork.kinds import ConfigError

ROOT = Path(__file__).resolve().parents[2]
TWO = """\
[server]
control = "run/x.sock"
[defaults]
workers = 3
environment = { TZ = "UTC", LEVEL = 7 }
[services.web]
app = "web:app"
bind = "127.0.0.1:8001"
max_head = "32KiB"
environment = { TZ = "CET" }
[services.admin]
app = "admin:app"
bind = ["127.0.0.1:8002", "unix:run/admin.sock"]
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """The working directory of every test: an empty one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def write(here):
    def put(text, path="fastfork.toml"):
        (here / path).parent.mkdir(exist_ok=True)
        (here / path).write_text(text)

    return put


def load(environ=None, *, file=None, only=None, here=True, **flags):
    return deployment.load(flags, file=file, only=only, environ=environ or {}, here=here)


def refused(*args, **kwargs):
    """The sentences with which `load(...)` is refused."""
    with pytest.raises(ConfigError) as caught:
        load(*args, **kwargs)
    assert str(caught.value) == "\n".join(caught.value.sentences)
    for sentence in caught.value.sentences:
        assert sentence.endswith(".") and "\n" not in sentence
    return list(caught.value.sentences)


def service(wanted, name):
    (found,) = [one for one in wanted.services if one.name == name]
    return found


# -- which one holds ---------------------------------------------------------------------
def test_a_command_line_is_one_service_without_a_name():
    wanted = load(app="web:app", workers="2", log_level="debug")
    assert [one.name for one in wanted.services] == [""]
    assert wanted.services[0].settings.workers == 2
    assert wanted.server.log_level == "debug"
    assert wanted.file is None and wanted.warnings == ()


def test_the_services_of_a_file(write, here):
    write(TWO)
    wanted = load()
    assert wanted.file == str(here / "fastfork.toml")
    assert [one.name for one in wanted.services] == ["web", "admin"]
    assert wanted.server.control == str(here / "run/x.sock")
    web, admin = (one.settings for one in wanted.services)
    assert (web.app, web.workers, web.max_head) == ("web:app", 3, 32 << 10)
    assert web.environment == (("TZ", "CET"), ("LEVEL", "7"))
    assert admin.bind == ("127.0.0.1:8002", f"unix:{here}/run/admin.sock")
    assert admin.environment == (("TZ", "UTC"), ("LEVEL", "7"))
    assert admin.max_head == 64 << 10


def test_flag_over_environment_over_service_over_defaults_over_default(write):
    texts = {"flag": "11s", "environment": "12s", "service": "13s", "defaults": "14s"}
    seen = []
    for number in range(len(texts) + 1):
        there = list(texts)[number:]
        lines = {
            table: f'keep_alive = "{texts[table]}"\n' if table in there else ""
            for table in ("defaults", "service")
        }
        write(f'[defaults]\n{lines["defaults"]}[services.a]\napp = "x"\n{lines["service"]}')
        environ = {"FASTFORK_KEEP_ALIVE": texts["environment"]} if "environment" in there else {}
        flags = {"keep_alive": texts["flag"]} if "flag" in there else {}
        (one,) = load(environ, **flags).services
        seen.append((one.settings.keep_alive, one.origins.get("keep_alive")))
    assert seen == [
        (11, "flag --keep-alive"), (12, "environment FASTFORK_KEEP_ALIVE"),
        (13, "fastfork.toml [services.a]"), (14, "fastfork.toml [defaults]"), (75, None),
    ]  # fmt: skip


def test_the_server_has_flag_over_environment_over_file(write):
    write('[server]\nlog_level = "error"\n')
    assert load(app="x", file="fastfork.toml").server.log_level == "error"
    environ = {"FASTFORK_LOG_LEVEL": "warning"}
    assert load(environ, app="x", file="fastfork.toml").server.log_level == "warning"
    wanted = load(environ, app="x", file="fastfork.toml", log_level="debug")
    assert (wanted.server.log_level, wanted.origins) == (
        "debug", {"log_level": "flag --log-level"})


def test_names_with_values_are_merged_through_all_sources(write):
    write('[defaults]\nenvironment = { A = "1", B = "1", C = "1", D = "1" }\n'
          '[services.a]\napp = "x"\nenvironment = ["B=2", "C=2", "D=2"]\n')
    (one,) = load({"FASTFORK_ENVIRONMENT": "C=3 'D=3 3' E=3"}, environment=["D=4"]).services
    assert dict(one.settings.environment) == {"A": "1", "B": "2", "C": "3", "D": "4", "E": "3"}
    assert one.origins["environment"] == (
        "fastfork.toml [defaults] and fastfork.toml [services.a] and environment "
        "FASTFORK_ENVIRONMENT and flag --environment")


def test_other_lists_replace(write):
    write('[defaults]\nbind = ["127.0.0.1:1", "127.0.0.1:2"]\npython_path = ["/a"]\n'
          '[services.a]\napp = "x"\nbind = "127.0.0.1:3"\npython_path = []\n')
    (one,) = load().services
    assert one.settings.bind == ("127.0.0.1:3",) and one.settings.python_path == ()


def test_a_flag_holds_for_every_service_that_is_started(write):
    write(TWO)
    assert [one.settings.workers for one in load(workers="9").services] == [9, 9]


def test_it_is_read_anew_each_time(write):
    write(TWO)
    assert service(load(), "web").settings.max_head == 32 << 10
    write(TWO.replace("32KiB", "48KiB"))
    assert service(load(), "web").settings.max_head == 48 << 10


# -- values of TOML ----------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("workers = 4", 4), ('workers = "4"', 4), ('workers = "auto"', "auto"),
        ("keep_alive = 90", 90.0), ("keep_alive = 2.5", 2.5), ('keep_alive = "5m"', 300.0),
        ("max_body = 512", 512), ('max_body = "10k"', 10240),
        ("exclusive = true", True), ('exclusive = "on"', True), ("exclusive = false", False),
        ("date_header = false", "off"), ('date_header = "off"', "off"),
        ("preload = true", "on"), ('preload = "auto"', "auto"),
        ('umask = "0027"', 0o27), ("group = 0", "0"), ("bind = 8000", ("8000",)),
        ('bind = ["127.0.0.1:1", 8000]', ("127.0.0.1:1", "8000")),
        ("pyargv = \"--config 'a b'\"", ("--config", "a b")),
        ('pyargv = ["--config", "a b"]', ("--config", "a b")), ("pyargv = []", ()),
        ('forwarded_allow_ips = ["127.0.0.1", "unix"]', ("127.0.0.1/32", "unix")),
        ('forwarded_allow_ips = "*"', ("*",)), ("forwarded_allow_ips = []", ()),
        ('forwarded_fields = ["Forwarded"]', ("forwarded",)),
        ('environment = "A=1"', (("A", "1"),)),
        ('environment = { A = 1, B = "x=y" }', (("A", "1"), ("B", "x=y"))),
        ('global_conf = { "a b" = "" }', (("a b", ""),)),
        ('server_header = "none"', "none"),
    ],
)  # fmt: skip
def test_what_means_something_is_taken(write, text, value):
    write(f'[services.a]\napp = "x"\n{text}\n')
    (one,) = load().services
    assert getattr(one.settings, text.split(" = ")[0]) == value


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ('workers = "many"', "workers = 'many' is not usable: it must be \"auto\" or a whole "
         "number, from 1 to 4096."),
        ("workers = 0", "workers = 0 is not usable: it must be \"auto\" or a whole number, from 1"),
        ("workers = 2.0", "workers = 2.0 is not usable: it must be \"auto\" or a whole number"),
        ("workers = true", "workers = true is not usable: it must be \"auto\" or a whole"),
        ("workers = [4]", "workers = [4] is not usable: it must be \"auto\" or a whole number"),
        ("workers = { min = 1 }", "workers = { min = 1 } is not usable: it must be \"auto\" or a"),
        ("backlog = 12:30:00", "backlog = 12:30:00 is not usable: it must be a whole number"),
        ("keep_alive = 2026-01-01", "keep_alive = 2026-01-01 is not usable: it must be a duration "
         "such as 90s, 5m, 250ms or 2.5 (seconds), from 0.01 s"),
        ("keep_alive = nan", "keep_alive = nan is not usable: it must be a duration"),
        ("keep_alive = inf", "keep_alive = inf is not usable: it must be a duration"),
        ("keep_alive = -1", "keep_alive = -1 is not usable: it must be a duration"),
        ("keep_alive = true", "keep_alive = true is not usable: it must be a duration"),
        ('keep_alive = "soon"', "keep_alive = 'soon' is not usable: it must be a duration"),
        ("max_body = 1.5", "max_body = 1.5 is not usable: it must be a size such as 64KiB"),
        ('max_head = "1"', "max_head = '1' is not usable: it must be a size such as 64KiB, 1MiB, "
         "10k or 512 (bytes), from 64 bytes to 16 MiB."),
        ("exclusive = 1", "exclusive = 1 is not usable: it must be on or off."),
        ('exclusive = "yes"', "exclusive = 'yes' is not usable: it must be on or off."),
        ("preload = 1", "preload = 1 is not usable: it must be one of auto, on, off."),
        ("header_map = true", "header_map = true is not usable: it must be one of drop, refuse"),
        ("access_log_format = []", "access_log_format = [] is not usable: it must be one of "
         "common, combined."),
        ("chdir = true", "chdir = true is not usable: it must be a path, in quotes."),
        ('chdir = ""', "chdir = '' is not usable: it must be a path."),
        ('chdir = ["/"]', "chdir = ['/'] is not usable: it must be a path."),
        ("socket_mode = 0o660", "socket_mode = 432 is not usable: it must be three or four octal "
         "digits, such as 0660, from 0000 to 0777, in quotes."),
        ('socket_mode = "0999"', "socket_mode = '0999' is not usable: it must be three or four"),
        ("bind = 3.5", "bind = 3.5 is not usable: it must be an address or a port."),
        ("bind = [[]]", "bind = [] is not usable: it must be an address or a port."),
        ('bind = "nowhere"', "bind = 'nowhere' is not an address: the port is missing, write "
         "nowhere:8000."),
        ("bind = -1", "bind = '-1' is not an address: "),
        ("pyargv = [1]", "pyargv = [1] is not usable: it must be arguments as in a shell"),
        ('pyargv = ["\\u0000"]', "pyargv = ['\\x00'] is not usable: it must be arguments as in"),
        ('forwarded_allow_ips = ["10.0.0.1/8"]', "forwarded_allow_ips = ['10.0.0.1/8'] is not "
         "usable: it must be a comma-separated list of addresses"),
        ("forwarded_fields = []", "forwarded_fields = [] is not usable: it must be a "
         "comma-separated list out of x-forwarded-for"),
        ("environment = 5", "environment = 5 is not usable: it must be a table such as "
         '{ NAME = "VALUE" }.'),
        ('environment = { "1A" = "x" }', "environment.1A = 'x' is not usable: it must be "
         "NAME=VALUE, the name of letters, digits and underscores."),
        ("environment = { A = true }", "environment.A = true is not usable: it must be some text, "
         "in quotes."),
        ("environment = { A = { B = 1 } }", "environment.A = { B = 1 } is not usable: it must be "
         "some text, in quotes."),
        ('environment = { "A=B" = "x" }', "environment.A=B = 'x' is not usable: it must be NAME="),
        ('environment = ["A"]', "environment = 'A' is not usable: it must be NAME=VALUE, the"),
        ('global_conf = { "a=b" = "x" }', "global_conf.a=b = 'x' is not usable: it must be "
         "NAME=VALUE."),
        ('on_worker_start = 1', "on_worker_start = 1 is not usable: it must be some text, in"),
        ('server_header = "\\n"', "server_header = '\\n' is not usable: it must be at most 200"),
        (f'chdir = {{ x = "{"y" * 300}" }}', f"chdir = {{ x = '{'y' * 193}… is not usable: it"),
    ],
)  # fmt: skip
def test_what_means_nothing_is_told_with_file_service_key_value_and_what_is_right(
    write, text, wrong
):
    write(f'[services.a]\napp = "x"\n{text}\n')
    (sentence,) = refused()
    assert sentence.startswith(f"fastfork.toml, [services.a]: {wrong}")


def test_the_path_of_the_file_is_told_as_it_was_given(write, here):
    write("[services.a]\napp = 1\n", "etc/x.toml")
    for file in ("etc/x.toml", "./etc/x.toml", str(here / "etc/x.toml")):
        (sentence,) = refused(file=file)
        assert sentence == (
            f"{file}, [services.a]: app = 1 is not usable: it must be some text, in quotes.")


# -- what does not exist -----------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[services.a]\napp = 'x'\nmax-head = 1", "fastfork.toml, [services.a]: there is no "
         "setting 'max-head' (perhaps 'max_head' is meant)."),
        ("[services.a]\napp = 'x'\nfrobnicate = 1", "fastfork.toml, [services.a]: there is no "
         "setting 'frobnicate'."),
        ("[services.'a.b']\napp = 'x'\nworker = 1", "fastfork.toml, [services.\"a.b\"]: there is "
         "no setting 'worker' (perhaps 'workers' is meant)."),
        ("[services.a]\napp = 'x'\n[services.a.limits]\n", "fastfork.toml, [services.a]: there is "
         "no setting 'limits'."),
        ("[services.a]\napp = 'x'\npid = '/p'", "fastfork.toml, [services.a]: pid does not belong "
         "here, it belongs in [server]."),
        ("[defaults]\nlog_level = 'info'\n[services.a]\napp = 'x'", "fastfork.toml, [defaults]: "
         "log_level does not belong here, it belongs in [server]."),
        ("[server]\nworkers = 1\n[services.a]\napp = 'x'", "fastfork.toml, [server]: workers does "
         "not belong here, it belongs in [services.NAME] or [defaults]."),
        ("[server]\ncontrl = 'x'\n[services.a]\napp = 'x'", "fastfork.toml, [server]: there is no "
         "setting 'contrl' (perhaps 'control' is meant)."),
        ("[service.a]\napp = 'x'", "fastfork.toml: there is no table 'service' (perhaps "
         "'services' is meant)."),
        ("[default]\n[services.a]\napp = 'x'", "fastfork.toml: there is no table 'default' "
         "(perhaps 'defaults' is meant)."),
        ("workers = 1\n[services.a]\napp = 'x'", "fastfork.toml: workers stands in no table: it "
         "belongs in [services.NAME] or [defaults]."),
        ("pid = '/x'\n[services.a]\napp = 'x'", "fastfork.toml: pid stands in no table: it belongs "
         "in [server]."),
        ("wrkers = 1\n[services.a]\napp = 'x'", "fastfork.toml: there is no setting 'wrkers' "
         "(perhaps 'workers' is meant)."),
        ("services = 1", "fastfork.toml: services must be a table, written [services.NAME]."),
        ("[[services]]\napp = 'x'", "fastfork.toml: services must be a table, written "
         "[services.NAME]."),
        ("defaults = 1\n[services.a]\napp = 'x'", "fastfork.toml: defaults must be a table, "
         "written [defaults]."),
        ("[services]\na = 1\n", "fastfork.toml: services.a must be a table, written "
         "[services.a]."),
        ("[services]\nworkers = 1\n", "fastfork.toml: workers stands in no service: it belongs in "
         "[services.NAME] or [defaults]."),
        ("[services.'a b']\napp = 'x'", "fastfork.toml: [services.\"a b\"] is not usable: the "
         "name of a service must be 1 to 64 letters, digits, dots, hyphens and underscores, and "
         "begin with none of . and -."),
        (f"[services.{'a' * 65}]\napp = 'x'", f"fastfork.toml: [services.{'a' * 65}] is not "
         "usable: the name of a service must be 1 to 64 letters, digits, dots, hyphens and "
         "underscores, and begin with none of . and -."),
    ],
)  # fmt: skip
def test_what_does_not_exist_is_told_with_what_is_near(write, text, sentence):
    write(text)
    assert refused() == [sentence]


def test_unknown_settings_of_whoever_calls():
    assert refused(app="x", keepalive="5") == [
        "There is no setting 'keepalive' (perhaps 'keep_alive' is meant)."]


def test_files_that_are_not_there(write, here):
    assert refused(file="x.toml") == ["x.toml cannot be read: No such file or directory."]
    assert refused({"FASTFORK_CONFIG": "y.toml"}) == [
        "y.toml cannot be read: No such file or directory."]
    assert refused(file="") == ["--config '' is not usable: it must be the path of a file."]
    assert refused({"FASTFORK_CONFIG": ""}) == [
        "FASTFORK_CONFIG '' is not usable: it must be the path of a file."]
    os.symlink("nowhere", "fastfork.toml")
    assert refused() == ["fastfork.toml cannot be read: No such file or directory."]


def test_syntax_errors(write):
    write("[services.a]\napp 'x'\n")
    (sentence,) = refused()
    assert sentence.startswith("fastfork.toml, line 2, column 5: expected '='")


def test_everything_wrong_is_told_at_once(write):
    write("""\
        wrkers = 1
        [server]
        log_level = "loud"
        [defaults]
        backlog = 0
        keep_alife = 1
        [services.a]
        app = "a.py"
        bind = ["nowhere", "127.0.0.1:x"]
        environment = { "1" = "x", A = true, B = "fine" }
        [services.b]
        workers = 0
        pid = "x"
        [services.c]
        app = "x"
        mount = { "/" = "y" }
        max_request_line = "64k"
        max_head = "32k"
        liveness_timeout = 0.5
        """)
    told = refused({"FASTFORK_HEAD_TIMEOUT": "soon"}, write_timeout="never", max_body="lots")
    begun = [
        "FASTFORK_HEAD_TIMEOUT 'soon' is not usable",
        "--write-timeout 'never' is not usable",
        "--max-body 'lots' is not usable",
        "fastfork.toml: there is no setting 'wrkers' (perhaps 'workers' is meant).",
        "fastfork.toml, [server]: log_level = 'loud' is not usable",
        "fastfork.toml, [defaults]: backlog = 0 is not usable",
        "fastfork.toml, [defaults]: there is no setting 'keep_alife' (perhaps 'keep_alive' is",
        "fastfork.toml, [services.a]: environment.1 = 'x' is not usable",
        "fastfork.toml, [services.a]: environment.A = true is not usable",
        "fastfork.toml, [services.b]: workers = 0 is not usable",
        "fastfork.toml, [services.b]: pid does not belong here, it belongs in [server].",
        "fastfork.toml, [services.a]: app = 'a.py' is not usable",
        "fastfork.toml, [services.a]: bind = 'nowhere' is not an address",
        "fastfork.toml, [services.a]: bind = '127.0.0.1:x' is not an address",
        "fastfork.toml, [services.b]: app is missing, write what is to be served, such as app = ",
        "fastfork.toml, [services.c]: max_request_line (64 KiB) must not be above",
        "fastfork.toml, [services.c]: liveness_timeout (0.5 s) must be 0 or",
        "fastfork.toml, [services.c]: app and mount do not go together",
        "fastfork.toml: the services b and c both have no bind",
    ]
    assert len(told) == len(begun)
    for sentence, beginning in zip(told, begun, strict=True):
        assert sentence.startswith(beginning)


def test_what_follows_from_another_fault_is_not_told(write):
    write('[services.a]\napp = 1\nbind = "127.0.0.1:1"\nmax_head = "x"\nmax_request_line = "1MiB"\n'
          '[services.b]\napp = "x"\nbind = [false]\n[services.c]\napp = "x"\n')
    assert [sentence.split(" = ")[0] for sentence in refused()] == [
        "fastfork.toml, [services.a]: app", "fastfork.toml, [services.a]: max_head",
        "fastfork.toml, [services.b]: bind"]


# -- what does not go together -----------------------------------------------------------
def test_settings_are_called_as_they_were_written(write):
    write('[defaults]\nmax_head = "32k"\n[services.a]\napp = "x"\nbind = 1\n'
          '[services.b]\napp = "x"\nbind = 2\nmax_head = "8k"\n')
    right = "which counts the request line too."
    assert refused(max_request_line="64k") == [
        "fastfork.toml, [defaults]: --max-request-line (64 KiB) must not be above max_head "
        f"(32 KiB), {right}",
        "fastfork.toml, [services.b]: --max-request-line (64 KiB) must not be above max_head "
        f"(8 KiB), {right}"]
    assert refused({"FASTFORK_MAX_HEAD": "4k"}) == [
        f"max_request_line (16 KiB) must not be above FASTFORK_MAX_HEAD (4 KiB), {right}"]


def test_settings_of_a_command_line_are_called_flags():
    assert refused(app="x", max_head="4k") == [
        "--max-request-line (16 KiB) must not be above --max-head (4 KiB), which counts the "
        "request line too."]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("liveness_timeout = 0.5", "liveness_timeout (0.5 s) must be 0 or at least 1 s: a worker "
         "is not always scheduled at once."),
        ("proxy_protocol = 'v1'", "proxy_protocol v1 needs forwarded_allow_ips to name the peers "
         "that begin with a preamble, such as 10.0.0.0/8."),
        ("bind = [1, 1]", "bind '1' is given twice."),
        ("mount = { '/' = 'y' }", "app and mount do not go together: write one of them."),
        ("mount = ['/=y', '/=z']", "mount = '/' is given twice."),
        ("user = 'no such'", "user = 'no such' is not usable: there is no user 'no such'."),
        ("group = 'no such'", "group = 'no such' is not usable: there is no group 'no such'."),
        ("socket_owner = ':no such'", "socket_owner = ':no such' is not usable: there is no group "
         "'no such'."),
    ],
)  # fmt: skip
def test_what_does_not_go_together(write, text, sentence):
    write(f"[services.a]\napp = 'x'\n{text}\n")
    assert refused() == [f"fastfork.toml, [services.a]: {sentence}"]


def test_accounts_may_be_of_another_machine(write):
    write("[services.a]\napp = 'x'\nuser = 'no such'\nsocket_owner = 'no such'\n")
    assert len(refused()) == 2
    assert load(here=False).services[0].settings.user == "no such"


def test_accounts_that_are_there(write):
    write(f"[services.a]\napp = 'x'\nuser = '{getpass.getuser()}'\nsocket_owner = {os.getuid()}\n")
    assert load().services[0].settings.socket_owner == str(os.getuid())


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("app = 'web.py'", "app = 'web.py' is not usable: it names a module, not a file"),
        ("app = 'a b'", "app = 'a b' is not usable: it must be pkg.mod:attr"),
        ("app = 'a:b(c)'", "app = 'a:b(c)' is not usable: "),
        ("app = 'paste:'", "app = 'paste:' is not usable: "),
        ("mount = { '/v1' = 'web.py' }", "mount./v1 = 'web.py' is not usable: it names a module"),
        ("mount = { 'v1' = 'x' }", "mount.v1 = 'x' is not usable: it must be PREFIX=APP"),
        ("mount = { '/a%20b' = 'x' }", "mount./a%20b = 'x' is not usable: it must be PREFIX=APP"),
    ],
)
def test_applications_that_cannot_be_meant(write, text, wrong):
    write(f"[services.a]\n{text}\n")
    (sentence,) = refused()
    assert sentence.startswith(f"fastfork.toml, [services.a]: {wrong}")


def test_applications_of_flags_that_cannot_be_meant():
    assert refused(app="web.py")[0].startswith("APP 'web.py' is not usable: it names a module")
    assert refused(mount=["/v1=web.py"])[0].startswith("--mount /v1: 'web.py' is not usable")
    assert refused(mount=["/=a", "/=b"]) == ["--mount '/' is given twice."]
    assert refused(app="x", mount=["/=a"]) == [
        "APP and --mount do not go together: write one of them."]


@pytest.mark.parametrize(
    ("one", "other", "address"),
    [
        ("127.0.0.1:81", "127.0.0.1:81", "127.0.0.1:81"), ("81", "127.0.0.1:81", "127.0.0.1:81"),
        (":81", "0.0.0.0:81", "0.0.0.0:81"), ("[::1]:81", "[::1]:81", "[::1]:81"),
        ("unix:/run/x", "unix:/run/../run/x", "unix:/run/x"), ("unix:@x", "unix:@x", "unix:@x"),
        ("fd://3", "fd://3", "fd://3"), ("systemd:a", "systemd:a", "systemd:a"),
    ],
)  # fmt: skip
def test_two_services_at_one_address(write, one, other, address):
    write(f"[services.a]\napp = 'x'\nbind = ['127.0.0.1:0', '{one}']\n"
          f"[services.b]\napp = 'x'\nbind = ['127.0.0.1:0', '{other}']\n")
    assert refused() == [
        f"fastfork.toml: the services a and b both have the address {address} in bind: give each "
        "its own."]
    assert load(only=["b"]).services[0].settings.bind[1] == other


def test_a_relative_path_is_the_same_address_as_an_absolute_one(write, here):
    write(f"[services.a]\napp = 'x'\nbind = 'unix:x'\n[services.b]\napp = 'x'\n"
          f"bind = 'unix:{here}/x'\n")
    (sentence,) = refused()
    assert f"the address unix:{here}/x in bind" in sentence


def test_two_services_without_an_address(write):
    write("[services.a]\napp = 'x'\n[services.b]\napp = 'x'\n[services.c]\napp = 'x'\nbind = 1\n")
    assert refused() == [
        "fastfork.toml: the services a and b both have no bind, which means 127.0.0.1:8000, or "
        "what systemd passes: give each its own."]


# -- what is to be served ----------------------------------------------------------------
def test_nothing_to_serve(write):
    assert refused() == [
        "There is nothing to serve: name the application, fastfork serve pkg.mod:attr, or a file "
        "that has services, fastfork serve -c FILE (there is no fastfork.toml here)."]
    write("[defaults]\nworkers = 1\n")
    assert refused() == [
        "fastfork.toml has no services: write [services.NAME] with app and bind into it, or name "
        "the application, fastfork serve APP."]


def test_an_application_needs_no_file_and_reads_none(write):
    write("this is no TOML")
    assert load(app="x").file is None
    assert load({"FASTFORK_APP": "y"}).services[0].settings.app == "y"
    assert len(refused()) == 1


def test_an_application_with_a_file_that_has_no_services(write, here):
    write("[server]\nlog_level = 'debug'\n[defaults]\nworkers = 7\n", "etc/x.toml")
    for wanted in (load(app="x", file="etc/x.toml"),
                   load({"FASTFORK_CONFIG": "etc/x.toml"}, app="x")):  # fmt: skip
        (one,) = wanted.services
        assert (one.name, one.settings.app, one.settings.workers) == ("", "x", 7)
        assert (wanted.server.log_level, wanted.file) == ("debug", str(here / "etc/x.toml"))


def test_an_application_and_services_do_not_go_together(write):
    write(TWO)
    assert refused(app="x", file="fastfork.toml") == [
        "APP 'x' and the services of fastfork.toml do not go together: leave one of them out."]
    assert refused({"FASTFORK_APP": "x"}, file="fastfork.toml") == [
        "FASTFORK_APP 'x' and the services of fastfork.toml do not go together: leave one of them "
        "out."]


def test_mounts_need_no_app():
    (one,) = load(mount=["/v1=a:app", "/=b:app"]).services
    assert one.settings.mount == (("/v1", "a:app"), ("/", "b:app"))


def test_only(write):
    write(TWO)
    assert [one.name for one in load(only=["admin"]).services] == ["admin"]
    assert [one.name for one in load(only=["admin", "web"]).services] == ["web", "admin"]
    environ = {"FASTFORK_ONLY": "web, admin"}
    assert [one.name for one in load(environ).services] == ["web", "admin"]
    assert [one.name for one in load(environ, only=["web"]).services] == ["web"]


def test_only_what_is_there(write):
    assert refused(only=["a"]) == ["--only needs a file with services: name it with -c FILE."]
    assert refused({"FASTFORK_ONLY": "a"}, app="x") == [
        "FASTFORK_ONLY needs a file with services: name it with -c FILE."]
    write(TWO)
    assert refused(only=["amdin", "zzz"]) == [
        "--only 'amdin' is not usable: fastfork.toml has no such service (perhaps 'admin' is "
        "meant).",
        "--only 'zzz' is not usable: fastfork.toml has no such service, it has web, admin."]
    assert refused({"FASTFORK_ONLY": ""}) == [
        "FASTFORK_ONLY '' is not usable: fastfork.toml has no such service, it has web, admin."]


@pytest.mark.parametrize(
    ("name", "value", "flag"), [("bind", "127.0.0.1:0", "--bind"), ("mount", "/=x", "--mount")])
def test_what_is_for_one_service(write, name, value, flag):
    write("[services.a]\nmount = { '/a' = 'x' }\nbind = 1\n"
          "[services.b]\nmount = { '/b' = 'x' }\nbind = 2\n")
    assert refused(**{name: [value]}) == [
        f"{flag} is for one service, and a, b are to be started: name one with --only."]
    assert refused({TABLE[name].variable: value}) == [
        f"{TABLE[name].variable} is for one service, and a, b are to be started: name one with "
        "--only."]
    (one,) = load(only=["a"], **{name: [value]}).services
    assert TABLE[name].parse(value, flag) in getattr(one.settings, name)


def test_an_address_for_several_is_not_also_told_as_theirs(write):
    write("[services.a]\napp = 'x'\nbind = 1\n[services.b]\napp = 'x'\nbind = 2\n")
    assert refused(bind=["127.0.0.1:81"]) == [
        "--bind is for one service, and a, b are to be started: name one with --only."]


# -- environment -------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        ("WORKERS", "4", 4), ("KEEP_ALIVE", "5m", 300.0), ("EXCLUSIVE", "on", True),
        ("BIND", "127.0.0.1:1,unix:/x", ("127.0.0.1:1", "unix:/x")),
        ("BIND", " 127.0.0.1:1 , unix:/x\n", ("127.0.0.1:1", "unix:/x")), ("BIND", "", ()),
        ("PYTHON_PATH", "/a '/b c'", ("/a", "/b c")),
        ("GLOBAL_CONF", "a=1 'b=2 3'", (("a", "1"), ("b", "2 3"))),
        ("PYARGV", "--x 'y z'", ("--x", "y z")),
        ("FORWARDED_ALLOW_IPS", "unix,10.0.0.0/8", ("unix", "10.0.0.0/8")),
    ],
)  # fmt: skip
def test_variables(variable, text, value):
    (one,) = load({"FASTFORK_" + variable: text}, app="x").services
    assert getattr(one.settings, variable.lower()) == value
    assert one.origins[variable.lower()] == f"environment FASTFORK_{variable}"


@pytest.mark.parametrize(
    ("variable", "text", "right"),
    [
        ("WORKERS", "many", '"auto" or a whole number, from 1 to 4096'),
        ("WORKERS", "", '"auto" or a whole number'), ("EXCLUSIVE", "yes", "on or off"),
        ("ENVIRONMENT", "'open", "NAME=VALUE, the name of letters, digits and underscores, quotes"),
        ("MOUNT", "v1=x", "PREFIX=APP"),
    ],
)  # fmt: skip
def test_variables_that_are_not_usable(variable, text, right):
    (sentence,) = refused({"FASTFORK_" + variable: text}, app="x")
    assert sentence.startswith(
        f"FASTFORK_{variable} {text!r} is not usable: it must be {right}")


def test_every_setting_has_its_variable():
    names = [row.variable for row in TABLE.values()]
    assert "FASTFORK_MAX_HEAD" in names and len(set(names)) == len(TABLE)
    assert not {*deployment.INTERNAL, deployment.CONFIG, deployment.ONLY} & set(names)


def test_variables_that_are_no_settings_are_warned_of(write):
    environ = {"FASTFORK_WORKRS": "4", "FASTFORK_PORT_8000_TCP_ADDR": "10.0.0.1", "PATH": "/bin",
               "FASTFORK_CONFG": "x", "fastfork_workers": "2"}  # fmt: skip
    warnings = load(environ, app="x").warnings
    assert warnings[0] == ("The environment variable FASTFORK_WORKRS is no setting (perhaps "
                           "'FASTFORK_WORKERS' is meant).")  # fmt: skip
    assert warnings[1].startswith("The environment variable FASTFORK_PORT_8000_TCP_ADDR is no ")
    assert "(perhaps 'FASTFORK_CONFIG' is meant)" in warnings[2]
    assert len(warnings) == 3


def test_what_we_tell_ourselves_is_not_warned_of():
    sources = [*(ROOT / "fastfork").glob("*.py"), ROOT / "setup.py", ROOT / "Makefile",
               *(ROOT / "tests/process").glob("*.py"), ROOT / "tests/core/test_layout.py"]
    said = {name for path in sources
            for name in re.findall(r'\bFASTFORK_[A-Z_]+[A-Z]\b', path.read_text())}
    ours = said - {row.variable for row in TABLE.values()} - {"FASTFORK_VERSION", "FASTFORK_PORT"}
    assert {"FASTFORK_LISTENERS", "FASTFORK_UPGRADE", "FASTFORK_DEBUG"} <= ours
    assert load(dict.fromkeys(deployment.INTERNAL, "1"), app="x").warnings == ()
    assert ours - {deployment.CONFIG, deployment.ONLY} == set(deployment.INTERNAL)


# -- paths -------------------------------------------------------------------------------
PATHS = {
    "app": ("paste:a.ini#main", "paste:{}/a.ini#main"), "chdir": ("x", "{}/x"),
    "python_path": ("../lib", "{}/../lib"), "access_log": ("x.log", "{}/x.log"),
    "bind": ("unix:./x", "unix:{}/x"), "pid": ("x.pid", "{}/x.pid"), "control": ("c", "{}/c"),
}  # fmt: skip


@pytest.mark.parametrize("name", PATHS)
def test_relative_paths_count_from_where_they_were_written(write, here, name):
    text, absolute = PATHS[name]
    server = TABLE[name].scope == "server"
    line = f'{name} = "{text}"\n'
    write(f'[server]\n{line if server else ""}[services.a]\n'
          f'{"" if name == "app" else "app = 1234567"}\n{"" if server else line}'
          .replace("1234567", '"x"'), "etc/x.toml")
    many = TABLE[name].many

    def value(wanted):
        found = vars(wanted.server if server else wanted.services[0].settings)[name]
        return found[0] if many else found

    def at(directory):
        path = absolute.format(directory)
        return os.path.normpath(path) if name == "python_path" else path

    assert value(load(file="etc/x.toml")) == at(here / "etc")
    given = {name: [text] if many else text}
    assert value(load(**{"app": "x", **given})) == at(here)
    assert value(load({TABLE[name].variable: text}, **({} if name == "app" else {"app": "x"}))
                 ) == at(here)  # fmt: skip


def test_mounted_paste_files_are_paths_too(write, here):
    write("[services.a]\nmount = { '/' = 'paste:a.ini', '/x' = 'a:b' }\n", "etc/x.toml")
    assert load(file="etc/x.toml").services[0].settings.mount == (
        ("/", f"paste:{here}/etc/a.ini"), ("/x", "a:b"))


def test_what_is_no_relative_path_stays_as_it_is(write):
    write('[server]\ncontrol = "auto"\npid = "/run/../x"\n[services.a]\napp = "pkg.mod:a"\n'
          'bind = ["unix:@x", "fd://3", "systemd:x", "127.0.0.1:0"]\naccess_log = "-"\n'
          'chdir = "/srv"\n', "etc/x.toml")  # fmt: skip
    wanted = load(file="etc/x.toml")
    settings = wanted.services[0].settings
    assert (wanted.server.control, wanted.server.pid) == ("auto", "/run/../x")
    assert settings.bind == ("unix:@x", "fd://3", "systemd:x", "127.0.0.1:0")
    assert (settings.app, settings.access_log, settings.chdir) == ("pkg.mod:a", "-", "/srv")


def test_a_working_directory_that_is_gone(here):
    (here / "gone").mkdir()
    os.chdir("gone")
    (here / "gone").rmdir()
    assert load(app="x", chdir="/srv", access_log="y").services[0].settings.access_log == "y"


# -- the control socket of a file ----------------------------------------------------------
def test_control_of_a_file_whatever_else_is_in_it(write, here):
    write('[server]\ncontrol = "x.sock"\npid = 5\n[services.a]\nnonsense = 1\n', "etc/x.toml")
    assert deployment.control_of("etc/x.toml") == str(here / "etc/x.sock")
    write('[server]\ncontrol = "auto"\n')
    assert deployment.control_of("fastfork.toml") == "auto"
    for text in ("", "server = 1", "[server]\n"):
        write(text)
        assert deployment.control_of("fastfork.toml") is None
    write("[server]\ncontrol = 5\n")
    with pytest.raises(ConfigError, match=r"fastfork\.toml, \[server\]: control = 5 is not usable"):
        deployment.control_of("fastfork.toml")
