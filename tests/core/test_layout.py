"""The rooms of the core: each part calls only parts that come after it in _core.pyx."""

import os
import re
from pathlib import Path

from harness import cores

from fastfork import _core

SOURCE = Path(__file__).resolve().parents[2] / "fastfork"
DEFINED = re.compile(
    r"^cdef (?:inline )?(?:object |[\w.]+\*{0,2} )*(\w+)\([^)]*\).*?:$|^def (\w+)\(",
    re.M)


def parts():
    """[(name, text without comments)] in the order of the assembly file."""
    names = re.findall(r'^include "core/(\w+)\.pxi"', (SOURCE / "_core.pyx").read_text(), re.M)
    return [(name, re.sub(r"#.*", "", (SOURCE / f"core/{name}.pxi").read_text()))
            for name in names]


def definitions(text):
    return {a or b for a, b in DEFINED.findall(text)}


def test_every_part_is_assembled():
    assert {n for n, _ in parts()} == {p.stem for p in (SOURCE / "core").glob("*.pxi")}


def test_definitions_are_found():
    found = dict(parts())
    assert "loop_run" in definitions(found["loop"])
    assert "head_take" in definitions(found["parse"])
    assert "conn_new" in definitions(found["connection"])
    assert "guard" in definitions(found["guard"])


def test_parts_call_only_downwards():
    earlier = {}
    wrong = []
    for name, text in parts():
        for function, home in earlier.items():
            if re.search(rf"(?<![\w.]){function}\(", text):
                wrong.append(f"{name}.pxi calls {function}() of {home}.pxi")
        if name != "edge":      # what stands at the edge is everybody's
            earlier.update(dict.fromkeys(definitions(text), name))
    assert not wrong, "\n".join(wrong)


def test_the_build_is_the_one_that_was_asked_for():
    assert os.environ.get("FASTFORK_EXPECT_DEBUG", "0") == str(int(_core.DEBUG))


def test_servers_run_the_core_that_is_tested(serve):
    """(The harness looks at every master; no test would otherwise fail if it saw nothing.)"""
    server = serve("fastfork.demo:app")
    for pid in [server.pid, *server.molds(), *server.workers()]:
        assert cores(pid) == {os.path.realpath(_core.__file__)}
