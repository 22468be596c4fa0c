import os
import sys

import pytest

from fastfork import app
from fastfork.app import BootError, Reference, load, parse, parse_service
from fastfork.config import Settings
from fastfork.kinds import ConfigError


def failure(text):
    with pytest.raises(BootError) as caught:
        load(parse(text))
    error = caught.value
    assert error.sentence.endswith(".") and "\n" not in error.sentence
    return error.sentence, error.trace


APP = "def {}(environ, start_response):\n    return [b'']\n"


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("mod", Reference("mod", "", False)),
        ("pkg.mod:attr", Reference("pkg.mod", "attr", False)),
        ("pkg.mod:a.b.c", Reference("pkg.mod", "a.b.c", False)),
        ("mod:make()", Reference("mod", "make", True)),
        ("mod:Site.make()", Reference("mod", "Site.make", True)),
        ("mod:make('a', -1, [None], key={'b': (1.5, True)})",
         Reference("mod", "make", True, ("a", -1, [None]), (("key", {"b": (1.5, True)}),))),
        ("mod:make('a:b/c.py(#')", Reference("mod", "make", True, ("a:b/c.py(#",))),
    ],
)
def test_parse(text, reference):
    assert parse(text) == reference
    assert str(reference) == text


@pytest.mark.parametrize(
    "text",
    ["", ":", ":app", "mod:", "mod:()", "mod()", "a b", "mod:a..b", "1x", "m:a:b"],
)
def test_malformed(text):
    with pytest.raises(ConfigError, match=r"APP .* must be pkg\.mod:attr"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "right"),
    [("hello.py", "'hello'"), ("dir/hello.py:app", "'hello:app'"), ("./hello:app", "'hello:app'")],
)
def test_a_file_is_no_module(text, right):
    with pytest.raises(ConfigError, match=f"a module, not a file, write {right}"):
        parse(text)


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        ("os.environ)", "its argument os.environ is no literal"),
        ("open('x'))", "its argument open('x') is no literal"),
        ("key=name)", "its argument name is no literal"),
        ("f'{1}')", "its argument f'{1}' is no literal"),
        ("*[1])", "its argument *[1] is no literal"),
        ("**{'a': 1})", "its argument **{'a': 1} is no literal"),
        ("{[]: 1})", "its argument {[]: 1} is no literal"),
        ("a=1, a=2)", "its argument 'a' is given twice."),
        ("1", "its arguments cannot be read ('(' was never closed)."),
        ("a=1, 2)", "its arguments cannot be read (positional argument follows keyword"),
        (r"'\d')", "its arguments cannot be read ("),
        ("'\0')", "its arguments cannot be read"),
        ("9" * 5000 + ")", "its arguments cannot be read"),
        ("(" * 5000 + ")", "its arguments cannot be read"),
        ("-" * 500 + "1)", "its argument is no literal"),
        ("1)(2)", "it must end with the one ) that closes the arguments."),
        ("1).app", "it must end with the one ) that closes the arguments."),
        (") or open('x')", "it must end with the one ) that closes the arguments."),
    ],
)
def test_arguments_that_are_no_literals(arguments, wrong):
    text = f"web:make({arguments}"
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert str(caught.value).startswith(f"APP {text!r} is not usable: {wrong}")
    assert str(caught.value).count("\n") == 0 and str(caught.value).endswith(".")


def test_a_literal_is_explained():
    with pytest.raises(ConfigError) as caught:
        parse("web:make(debug)")
    assert str(caught.value) == (
        "APP 'web:make(debug)' is not usable: its argument debug is no literal: text in quotes, "
        "numbers, True, False, None, and lists, tuples, sets and dicts of them can be given.")


def test_parsing_imports_nothing(module):
    module("web", "raise SystemExit")
    before = set(sys.modules)
    parse("web:make(1)")
    assert "web" not in set(sys.modules) - before


@pytest.mark.parametrize(
    ("text", "name", "shown"),
    [
        ("paste:api.ini", "main", "paste:api.ini"),
        ("paste:api.ini#compute", "compute", "paste:api.ini#compute"),
        ("paste:my api(1).py:x/../api.ini#a#b", "a#b", "paste:my api(1).py:x/../api.ini#a#b"),
    ],
)
def test_parse_paste(text, name, shown, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    reference = parse(text)
    file = "my api(1).py:x/../api.ini" if "my" in text else "api.ini"
    assert reference.file == os.path.normpath(tmp_path / file)
    assert (reference.name, str(reference)) == (name, shown)


@pytest.mark.parametrize(("text", "missing"), [("paste:", "FILE"), ("paste:#main", "FILE"),
                                               ("paste:x.ini#", "NAME")])  # fmt: skip
def test_malformed_paste(text, missing):
    with pytest.raises(ConfigError) as caught:
        parse(text, "the source")
    assert str(caught.value) == (
        f"the source {text!r} is not usable: {missing} is missing, write paste:FILE#NAME.")


def test_what_a_service_serves():
    assert parse_service(Settings(app="web:app")) == Reference("web", "app", False)
    mounts = parse_service(Settings(mount=(("/v1", "one:make(1)"), ("/", "paste:x.ini"))))
    assert str(mounts) == "/v1=one:make(1), /=paste:x.ini"
    with pytest.raises(ConfigError) as caught:
        parse_service(Settings(app="web:app", mount=(("/v1", "one:app"),)))
    assert str(caught.value) == (
        "APP 'web:app' and --mount do not go together: mount it at / instead.")


def test_attribute(module):
    module("web", APP.format("serve"))
    assert load(parse("web:serve")).__name__ == "serve"


def test_dotted(module):
    module("pkg.__init__")
    module("pkg.web", "class Site:\n    @staticmethod\n    def app(e, s): return [b'']\n")
    assert load(parse("pkg.web:Site.app"))("environ", "start_response") == [b""]


def test_application_is_looked_for_before_app(module):
    module("both", APP.format("application") + APP.format("app"))
    module("one", APP.format("app"))
    assert load(parse("both")).__name__ == "application"
    assert load(parse("one")).__name__ == "app"


def test_neither_application_nor_app(module):
    module("web", APP.format("serve"))
    assert failure("web") == (
        "web has neither 'application' nor 'app': name what to serve, as in web:attr.", "")


def test_factory(module):
    module("web", "def make():\n" + "    def app(e, s): return []\n    return app\n")
    assert load(parse("web:make()"))("e", "s") == []


def test_factory_with_arguments(module):
    module("web", "def make(*args, **keywords):\n    return lambda e, s: [args, keywords]\n")
    made = load(parse("web:make('a', [1], key=None)"))
    assert made("e", "s") == [("a", [1]), {"key": None}]
    assert load(parse("web:make()"))("e", "s") == [(), {}]


def test_factory_with_wrong_arguments(module):
    module("web", "def make(path): pass\n")
    sentence, trace = failure("web:make(1, key=2)")
    assert sentence == ("Cannot serve web:make(1, key=2): calling the factory raised TypeError: "
                        "make() got an unexpected keyword argument 'key'.")
    assert trace == ""


def test_factory_raises(module):
    module("web", "def make():\n    raise RuntimeError('no database')\n")
    sentence, trace = failure("web:make()")
    assert sentence == (
        "Cannot serve web:make(): calling the factory raised RuntimeError: no database.")
    assert "line 2, in make" in trace


def test_factory_needs_arguments(module):
    module("web", "def make(path): pass\n")
    sentence, trace = failure("web:make()")
    assert "calling the factory raised TypeError: make() missing 1 required" in sentence
    assert trace == ""


def test_factory_is_no_callable_or_makes_none(module):
    module("web", "make = 3\ndef none(): pass\n")
    assert "web:make is an int, not a factory" in failure("web:make()")[0]
    sentence, _ = failure("web:none()")
    assert sentence == "what web:none() returned is a NoneType, which is not callable."


def test_not_callable(module):
    module("web", "app = {}\n")
    assert failure("web:app") == ("web:app is a dict, which is not callable.", "")


def test_a_factory_without_its_parentheses(module):
    module("web", "def make_app(): pass\n")
    assert failure("web:make_app")[0] == (
        "web:make_app cannot be called with (environ, start_response); "
        "a factory is written web:make_app().")


def test_signatures_that_only_look_wrong(module):
    module("web", """
import functools
def inner(request): pass
@functools.wraps(inner)
def decorated(*args): return []
class Class:
    def __init__(self, environ, start_response): pass
class Instance:
    def __call__(self, *args): return []
instance = Instance()
partial = functools.partial(lambda a, e, s: [], 1)
method = instance.__call__
""")
    for name in ("decorated", "Class", "instance", "partial", "method"):
        load(parse(f"web:{name}"))


def test_asynchronous_applications_are_told_from_others(module):
    module("web", """
async def app(scope, receive, send): pass
class Site:
    async def __call__(self, scope, receive, send): pass
site = Site()
""")
    for name in ("app", "site"):
        assert failure(f"web:{name}")[0] == (
            f"web:{name} is an asynchronous (ASGI) application, not a WSGI one.")


def test_missing_attribute_with_a_hint(module):
    module("web", "aplication = 1\nclass Site: handler = 1\n")
    assert failure("web:application")[0] == (
        "web has no attribute 'application' (perhaps 'aplication' is meant).")
    assert failure("web:Site.handle")[0] == (
        "web:Site has no attribute 'handle' (perhaps 'handler' is meant).")
    assert failure("web:zzz")[0] == "web has no attribute 'zzz'."


def test_missing_module(module, tmp_path):
    module("hello_world")
    assert failure("helo_world:app") == (
        f"Cannot import helo_world:app: there is no module named 'helo_world' in {tmp_path} "
        "or on the Python path (perhaps 'hello_world' is meant).", "")


def test_missing_module_in_a_package(module):
    module("pkg.__init__")
    sentence, trace = failure("pkg.web:app")
    assert "no module named 'pkg.web'" in sentence and trace == ""
    sentence, trace = failure("absent.web:app")
    assert "no module named 'absent'" in sentence and trace == ""


def test_a_module_that_the_application_lacks_is_the_application_s_fault(module):
    module("web", "import django_not_installed\n")
    sentence, trace = failure("web:app")
    assert sentence == ("Cannot serve web:app: importing it raised ModuleNotFoundError: "
                        "No module named 'django_not_installed'.")
    assert "import django_not_installed" in trace


def test_a_package_that_fails_to_import_itself_is_the_application_s_fault(module):
    module("pkg.__init__", "import pkg.web.absent\n")
    module("pkg.web")
    sentence, trace = failure("pkg.web:app")
    assert "importing it raised ModuleNotFoundError" in sentence
    assert "import pkg.web.absent" in trace


def test_the_traceback_is_the_application_s_alone(module):
    module("helper", "def f():\n    return 1 / 0\n")
    module("web", "import helper\nhelper.f()\n")
    sentence, trace = failure("web:app")
    assert sentence == (
        "Cannot serve web:app: importing it raised ZeroDivisionError: division by zero.")
    assert trace.startswith("Traceback (most recent call last):\n")
    assert "helper.py" in trace and "1 / 0" in trace
    assert "importlib" not in trace and app.__file__ not in trace


def test_syntax_error(module):
    module("web", "def f(:\n")
    sentence, trace = failure("web:app")
    assert "importing it raised SyntaxError: invalid syntax" in sentence
    assert "def f(:" in trace


@pytest.mark.parametrize("code", ["", "0", "3", "'usage: web'"])
def test_system_exit_is_a_failed_boot_whatever_its_code(module, code):
    module("web", f"import sys\nsys.exit({code})\n")
    sentence, trace = failure("web:app")
    assert f"importing it ended the process with SystemExit({code or None})" in sentence
    assert "line 2" in trace


def test_keyboard_interrupt_and_the_like_are_failed_boots(module):
    module("web", "raise KeyboardInterrupt\n")
    assert failure("web:app")[0].endswith("importing it raised KeyboardInterrupt.")


def test_several_lines_become_one_sentence(module):
    module("web", "raise ValueError('first\\nsecond')\n")
    sentence, trace = failure("web:app")
    assert sentence.endswith("raised ValueError: first.")
    assert "second" in trace


def test_prepare(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    monkeypatch.setattr(sys, "path", ["", "/elsewhere"])
    monkeypatch.setattr(sys, "argv", ["/bin/fastfork", "serve", "web:app", "-w", "4"])
    app.prepare("sub", ("--config", "my file"))
    assert sys.path == [str(tmp_path / "sub"), "/elsewhere"]
    assert sys.argv == ["/bin/fastfork", "--config", "my file"]


def test_the_python_path_comes_after_the_working_directory(tmp_path, monkeypatch):
    """And counts from the directory before the change."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path / "lib"), "/elsewhere", ""])
    monkeypatch.setattr(sys, "argv", ["fastfork"])
    app.prepare("sub", (), ("lib", "/srv/lib", "lib"))
    assert sys.path == [str(tmp_path / "sub"), str(tmp_path / "lib"), "/srv/lib", "/elsewhere"]


def test_prepare_without_a_directory(tmp_path):
    with pytest.raises(BootError, match=r"Cannot change to the directory .*absent.*: No such file"):
        app.prepare(str(tmp_path / "absent"), ())
