import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from forked import in_child

from fastfork import paste
from fastfork.app import BootError, load, parse
from fastfork.kinds import ConfigError

ROOT = Path(__file__).resolve().parents[2]

PARTS = """
def make(global_conf, **local_conf):
    def application(environ, start_response):
        return [local_conf, dict(global_conf)]
    return application

def outer(global_conf, mark):
    def wrap(inner):
        return lambda environ, start_response: [mark, *inner(environ, start_response)]
    return wrap

def either(loader, global_conf, **names):
    places = {name: loader.get_app(app, global_conf) for name, app in names.items()}
    return lambda environ, start_response: places[environ](environ, start_response)

def fails(global_conf):
    raise RuntimeError("no database")

def leaves(global_conf):
    raise SystemExit(3)

def nothing(global_conf):
    return None

class Site:
    async def __call__(self, scope, receive, send): pass

def asynchronous(global_conf):
    return Site()
"""


@pytest.fixture
def paste_file(module, tmp_path):
    """`paste_file(text, name="api.ini")` writes it, beside the module `parts`."""
    module("parts", PARTS)

    def write(text, name="api.ini"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def failure(text, **global_conf):
    with pytest.raises(BootError) as caught:
        load(parse(text), global_conf)
    sentence = caught.value.sentence
    assert sentence.endswith(".") and "\n" not in sentence
    return sentence, caught.value.trace


# -- what is loaded ----------------------------------------------------------------------
def test_an_application_and_its_settings(paste_file):
    file = paste_file("""
[DEFAULT]
shared = %(here)s/data
[app:main]
paste.app_factory = parts:make
Own = 1 %% of %(shared)s
[app:other]
use = main
own = 2
""")
    local, conf = load(parse("paste:api.ini"))(None, None)
    here = str(file.parent)
    assert local == {"Own": f"1 % of {here}/data"}
    assert conf == {"here": here, "__file__": str(file), "shared": f"{here}/data"}
    local, _ = load(parse("paste:api.ini#other"))(None, None)
    assert local == {"Own": f"1 % of {here}/data", "own": "2"}


def test_the_setting_global_conf_goes_before_the_file(paste_file):
    """Everywhere, and whatever is in it."""
    paste_file("""
[DEFAULT]
rate = 1
path = /var/%(rate)s
[app:main]
paste.app_factory = parts:make
own = %(rate)s, %(more)s, %(path)s
set rate_again = %(rate)s
""")
    conf = {"rate": "100%", "more": "%(rate)s"}
    local, given = load(parse("paste:api.ini"), conf)(None, None)
    assert local == {"own": "100%, %(rate)s, /var/100%"}
    assert (given["rate"], given["more"], given["rate_again"]) == ("100%", "%(rate)s", "100%")


def test_pipelines_filters_and_composites(paste_file):
    paste_file("""
[composite:main]
paste.composite_factory = parts:either
one = piped
two = filtered
three = with
[pipeline:piped]
pipeline = first second bare
[filter-app:filtered]
use = first
next = bare
[app:with]
paste.app_factory = parts:make
filter-with = second
[app:bare]
paste.app_factory = parts:make
[filter:first]
paste.filter_factory = parts:outer
mark = 1
[filter:second]
use = first
mark = 2
""")
    application = load(parse("paste:api.ini"))
    assert application("one", None)[:-2] == ["1", "2"]
    assert application("two", None)[:-2] == ["1"]
    assert application("three", None)[:-2] == ["2"]


@pytest.mark.parametrize("name", ["100%.ini", "a%(here)sb.ini", "back\\slash.ini", "x y:z.ini"])
def test_names_of_files_that_mean_something_elsewhere(paste_file, name, tmp_path):
    paste_file("[app:main]\npaste.app_factory = parts:make\nown = %(here)s\n", name)
    local, conf = load(parse(f"paste:{name}"))(None, None)
    assert (local["own"], conf["__file__"]) == (str(tmp_path), str(tmp_path / name))


def test_the_file_counts_from_the_directory_of_the_start(paste_file, tmp_path, monkeypatch):
    paste_file("[app:main]\npaste.app_factory = parts:make\n")
    served = parse("paste:api.ini")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert load(served)


# -- what can be wrong -------------------------------------------------------------------
def test_no_file(paste_file, tmp_path):
    paste_file("", "api-paste.ini")
    assert failure("paste:api_paste.ini") == (
        f"Cannot read the paste file '{tmp_path}/api_paste.ini': No such file or directory "
        "(perhaps 'api-paste.ini' is meant).", "")
    assert failure("paste:absent/x.ini")[0] == (
        f"Cannot read the paste file '{tmp_path}/absent/x.ini': No such file or directory.")
    assert failure(f"paste:{tmp_path}")[0] == (
        f"Cannot read the paste file '{tmp_path}': Is a directory.")


def test_a_file_of_another_kind(paste_file, tmp_path):
    paste_file("app = 1\n")
    sentence, trace = failure("paste:api.ini")
    assert sentence.startswith(f"The paste file '{tmp_path}/api.ini' is not usable: File contains "
                               "no section headers.")
    assert trace == ""
    (tmp_path / "api.ini").write_bytes(b"[app:main]\nx = \xff\n")
    assert "is not usable: 'utf-8' codec can't decode byte 0xff" in failure("paste:api.ini")[0]


def test_no_such_application(paste_file, tmp_path):
    paste_file("[pipeline:metadata]\n[composite: ec2]\n[filter:metadat]\n[server:main]\n")
    beginning = f"Cannot serve paste:api.ini#{{}}: {tmp_path}/api.ini has no application "
    assert failure("paste:api.ini#metadat") == (
        beginning.format("metadat") + "'metadat' (perhaps 'metadata' is meant).", "")
    sentence = f"Cannot serve paste:api.ini: {tmp_path}/api.ini has no application 'main', only "
    assert failure("paste:api.ini")[0] == sentence + "'metadata', 'ec2'."
    paste_file("[filter:main]\n")
    assert failure("paste:api.ini#x")[0] == beginning.format("x") + "'x'."


def test_two_applications_of_one_name(paste_file, tmp_path):
    paste_file("[app:main]\n[pipeline:main]\n")
    assert failure("paste:api.ini")[0] == (
        f"Cannot serve paste:api.ini: {tmp_path}/api.ini has several applications named 'main'.")


@pytest.mark.parametrize(
    ("section", "why"),
    [
        ("use = egg:Absent#x", "there is no distribution 'Absent', which {} refers to."),
        ("use = egg:pytest#x", "Entry point 'x' not found in egg 'pytest' (protocols: "
         "paste.app_factory, paste.composite_factory, paste.composit_factory; entry_points: )."),
        ("use = absent", "No section 'absent' (prefixed by 'app' or 'application' or 'composite' "
         "or 'composit' or 'pipeline' or 'filter-app') found in config {}."),
        ("use = config:absent.ini", "loading it raised FileNotFoundError: [Errno 2] No such file "
         "or directory: '{here}/absent.ini'."),
        ("own = 1", "No loader given in section 'app:main'."),
        ("paste.app_factory = absent:make", "loading it raised ModuleNotFoundError: No module "
         "named 'absent'."),
        ("paste.app_factory = parts:absent", "loading it raised AttributeError: module 'parts' "
         "has no attribute 'absent'."),
        ("paste.app_factory = parts:fails\na = 1", "loading it raised TypeError: fails() got an "
         "unexpected keyword argument 'a'."),
        ("paste.app_factory = parts:make\na = %(absent)s", "loading it raised "
         "InterpolationMissingOptionError: Error in file {}: Bad value substitution: option 'a' "
         "in section 'app:main' contains an interpolation key 'absent' which is not a valid "
         "option name. Raw value: '%(absent)s'."),
        ("paste.app_factory = parts:make\nget a = absent", "loading it raised KeyError: 'absent'."),
    ],
)  # fmt: skip
def test_what_a_file_says_wrongly(paste_file, tmp_path, section, why):
    paste_file(f"[app:main]\n{section}\n")
    sentence, trace = failure("paste:api.ini")
    why = why.replace("{here}", str(tmp_path)).replace("{}", str(tmp_path / "api.ini"))
    assert sentence == f"Cannot serve paste:api.ini: {why}"
    assert trace == ""


@pytest.mark.parametrize(
    ("factory", "did"),
    [("fails", "raised RuntimeError: no database"),
     ("leaves", "ended the process with SystemExit(3)")],
)
def test_a_factory_that_fails_shows_its_own_traceback(paste_file, factory, did):
    paste_file(f"[pipeline:main]\npipeline = it\n[app:it]\npaste.app_factory = parts:{factory}\n")
    sentence, trace = failure("paste:api.ini")
    assert sentence == f"Cannot serve paste:api.ini: loading it {did}."
    assert f"in {factory}\n" in trace
    assert "loadwsgi" not in trace and "fastfork/" not in trace


def test_a_module_that_fails_shows_its_own_traceback(paste_file, module):
    module("broken", "import absent_helper\n")
    paste_file("[app:main]\npaste.app_factory = broken:make\n")
    sentence, trace = failure("paste:api.ini")
    assert "loading it raised ModuleNotFoundError: No module named 'absent_helper'" in sentence
    assert "import absent_helper" in trace and "metadata" not in trace


@pytest.mark.parametrize(
    ("factory", "what"),
    [("nothing", "is a NoneType, which is not callable."),
     ("asynchronous", "is an asynchronous (ASGI) application, not a WSGI one.")],
)
def test_what_is_no_application(paste_file, factory, what):
    paste_file(f"[app:main]\npaste.app_factory = parts:{factory}\n")
    assert failure("paste:api.ini")[0] == f"what paste:api.ini names {what}"


def test_without_pastedeploy(paste_file, monkeypatch):
    paste_file("[app:main]\npaste.app_factory = parts:make\n")
    monkeypatch.setitem(sys.modules, "paste", None)
    for name in [name for name in sys.modules if name.startswith("paste.")]:
        monkeypatch.delitem(sys.modules, name)
    sentence, trace = failure("paste:api.ini")
    assert sentence.startswith("Cannot serve paste:api.ini: PasteDeploy cannot be imported (")
    assert sentence.endswith("): pip install 'fastfork[paste]'.") and trace == ""


# -- logging -----------------------------------------------------------------------------
LOGGING = """
[DEFAULT]
[app:main]
paste.app_factory = parts:make
[loggers]
keys = root
[handlers]
keys = file
[formatters]
keys = plain
[logger_root]
level = WARNING
handlers = file
[handler_file]
class = FileHandler
args = (r"%(here)s/%(name)s",)
formatter = plain
[formatter_plain]
format = %(levelname)s %(message)s
"""


def test_the_logging_that_the_file_describes(paste_file, tmp_path):
    """Loggers that are there already go on, those of the server are not concerned."""
    paste_file(LOGGING)

    def act():
        earlier = logging.getLogger("earlier")
        load(parse("paste:api.ini"), {"name": "100%.log"})
        earlier.warning("late")
        earlier.info("not this")
        return (tmp_path / "100%.log").read_text()

    assert in_child(act) == "WARNING late\n"


def test_logging_that_cannot_be_set_up(paste_file):
    paste_file(LOGGING.replace("%(here)s", "%(here)s/absent"))

    def act():
        return json.dumps(failure("paste:api.ini", name="log"))

    sentence, _ = json.loads(in_child(act))
    assert sentence.startswith("Cannot serve paste:api.ini: setting up the logging that its file "
                               "describes raised FileNotFoundError: ")


def test_a_file_without_loggers_leaves_logging_alone(paste_file):
    paste_file(LOGGING.replace("[loggers]", "[logers]"))
    before = logging.root.handlers[:]
    load(parse("paste:api.ini"), {"name": "log"})
    assert logging.root.handlers == before


# -- the server --------------------------------------------------------------------------
@pytest.fixture
def command(tmp_path):
    """`command(conf, **section)`: what the process becomes, from APP on."""

    def arguments(conf=(), **section):
        file = tmp_path / "site.ini"
        file.write_text("[DEFAULT]\nown = 50%% of it\n")
        conf = {"__file__": str(file), "here": str(tmp_path), "own": "50% of it", **dict(conf)}
        app, *flags = paste._arguments(conf, section)
        assert app.startswith(f"paste:{file}#")
        return [app.rpartition("#")[2], *flags]

    return arguments


def test_nothing_but_the_application(command):
    assert command() == ["main"]
    assert command(app="other") == ["other"]


@pytest.mark.parametrize(
    ("section", "flags"),
    [
        ({"workers": "4", "request_timeout": "60s"}, ["--workers=4", "--request-timeout=60s"]),
        ({"exclusive": "on"}, ["--exclusive"]),
        ({"exclusive": "off"}, []),
        ({"pyargv": "--verbose -x"}, ["--pyargv=--verbose -x"]),
        ({"bind": "127.0.0.1:1\n  unix:/a b\n"}, ["--bind=127.0.0.1:1", "--bind=unix:/a b"]),
        ({"host": "0.0.0.0", "port": "80"}, ["--bind=0.0.0.0:80"]),
        ({"port": "80"}, ["--bind=127.0.0.1:80"]),
        ({"host": "::1"}, ["--bind=[::1]:8000"]),
        ({"host": "[::1]", "port": "80"}, ["--bind=[::1]:80"]),
        ({"global_conf": "a=1\nb=2"}, ["--global-conf=a=1", "--global-conf=b=2"]),
    ],
)
def test_keys_are_settings(command, section, flags):
    assert command(**section) == ["main", *flags]


def test_what_the_caller_has_defined_goes_along(command):
    """What stands in the file does not: it is read again at a reload."""
    assert command({"debug": "true", "own": "other"}) == [
        "main", "--global-conf=own=other", "--global-conf=debug=true"]


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        ({"workers": "many"}, "workers 'many' is not usable: it must be "),
        ({"exclusive": "true"}, "exclusive 'true' is not usable: it must be on or off."),
        ({"worker": "1"}, "there is no setting 'worker' (perhaps 'workers' is meant)."),
        ({"prot": "1"}, "there is no setting 'prot' (perhaps 'port' is meant)."),
        ({"mount": "/=a:b"}, "mount is not usable here: app names the one application"),
        ({"bind": ":80", "port": "80"}, "bind and host or port do not go together"),
        ({"environment": "A=1\nB"}, "environment 'B' is not usable: it must be NAME=VALUE"),
    ],
)
def test_keys_that_are_not_usable(command, tmp_path, section, sentence):
    with pytest.raises(ConfigError) as caught:
        command(**section)
    assert str(caught.value).startswith(f"{tmp_path}/site.ini: {sentence}")
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_all_faults_are_told_at_once(command):
    with pytest.raises(ConfigError) as caught:
        command(workers="many", worker="1", bind=":80", host="x")
    assert len(str(caught.value).splitlines()) == 3


def test_without_a_file(tmp_path):
    for file in ({}, {"__file__": str(tmp_path / "a#b.ini")}):
        with pytest.raises(ConfigError, match=r"is not usable as the name of one"):
            paste._arguments(file, {})


def test_the_sentences_stand_on_standard_error(tmp_path):
    program = ("from fastfork.paste import serve\n"
               "serve(None, {'__file__': '/x.ini'}, workers='0', global_conf='a')")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True,
                          timeout=60, env=dict(os.environ, PYTHONPATH=str(ROOT)))
    assert done.returncode == 2
    assert [line.partition(" is not usable")[0] for line in done.stderr.splitlines()] == [
        "fastfork: /x.ini: workers '0'", "fastfork: /x.ini: global_conf 'a'"]
