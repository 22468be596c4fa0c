"""Run a gunicorn.conf.py, and write what it sets to a descriptor, as one line of JSON.

    python run_conf.py FILE FD NAME,NAME...

A program of its own, which `import_gunicorn` starts: whatever the file does, it does to this
process.  That is also why it imports nothing of fastfork.  The line is {"error": text}, or
{"settings": {name: value}, "written": [names]}: a value is {"is": what JSON can say}, {"callable":
its name} or {"other": its type}; "written" are the names whose values stand in the file as they
are, and were not computed.
"""

from __future__ import annotations

import ast
import os
import sys
import types
from json import dumps  # whatever becomes of the module
from typing import Any

LONGEST = 16 << 20  # bytes of the file
DEEPEST = 8  # lists in lists
LARGEST = 64  # bits of a number


def main(path: str, fd: int, names: list[str]) -> None:
    own = os.getpid()
    sys.path[0] = os.getcwd()  # as with gunicorn, instead of the directory of this program
    sys.argv[:] = [path]
    sys.dont_write_bytecode = True
    answer = _answer(path, names)
    if os.getpid() == own:  # and not a copy, which the file has forked
        _write(fd, dumps(answer).encode() + b"\n")
    os._exit(0)  # whatever threads it has started


def _answer(path: str, names: list[str]) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            source = file.read(LONGEST + 1)
    except (OSError, ValueError) as error:
        return {"error": getattr(error, "strerror", None) or str(error)}
    if len(source) > LONGEST:
        return {"error": f"it has more than {LONGEST >> 20} MiB"}
    try:
        return _settings(source, path, names)
    except BaseException as error:  # SystemExit too: the file would end gunicorn with it
        return {"error": _describe(error, path)}


def _settings(source: bytes, path: str, names: list[str]) -> dict[str, Any]:
    tree = ast.parse(source, path)
    module = types.ModuleType("__config__")
    module.__file__ = path
    sys.modules["__config__"] = module
    exec(compile(tree, path, "exec", dont_inherit=True), vars(module))
    found = {name: vars(module)[name] for name in names if name in vars(module)}
    return {
        "settings": {name: _encode(value) for name, value in found.items()},
        "written": sorted(_written(tree)),
    }


def _encode(value: Any) -> dict[str, Any]:
    if callable(value):
        return {"callable": str(getattr(value, "__qualname__", type(value).__qualname__))}
    try:
        return {"is": _plain(value, DEEPEST)}
    except ValueError:
        return {"other": type(value).__qualname__}


def _plain(value: Any, depth: int) -> Any:
    """What JSON can say.  ValueError if it cannot."""
    if value is None or isinstance(value, (bool, str, float)):
        return value
    if isinstance(value, int) and value.bit_length() <= LARGEST:
        return int(value)
    if isinstance(value, (list, tuple)) and depth:
        return [_plain(item, depth - 1) for item in value]
    if isinstance(value, dict) and depth and all(isinstance(name, str) for name in value):
        return {name: _plain(item, depth - 1) for name, item in value.items()}
    raise ValueError(type(value))


def _written(tree: ast.Module) -> set[str]:
    """Names that are only ever set to a literal, at the top of the file."""
    set_at_all = [node.id for node in ast.walk(tree)
                  if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]  # fmt: skip
    to_literals = [
        target.id
        for statement in tree.body
        if isinstance(statement, ast.Assign) and _is_literal(statement.value)
        for target in statement.targets
        if isinstance(target, ast.Name)
    ]
    return {name for name in to_literals if to_literals.count(name) == set_at_all.count(name)}


def _is_literal(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError):
        return False
    return True


def _describe(error: BaseException, path: str) -> str:
    """The line of the file, the type and the first line of the text of what it raised."""
    where = ""
    if isinstance(error, SyntaxError):
        where = f"line {error.lineno}: " if error.lineno else ""
        text = str(error.msg)
    else:
        trace = error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == path:
                where = f"line {trace.tb_lineno}: "
            trace = trace.tb_next
        text = _text(error)
    return f"{where}{type(error).__name__}{': ' * bool(text)}{text}"


def _text(error: BaseException) -> str:
    try:
        return "".join(str(error).strip().splitlines()[:1])[:200]
    except BaseException:
        return ""


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3].split(","))
