"""Builds the compiled core; everything else about the project stands in pyproject.toml.

FASTFORK_DEBUG=1   live-object counters and assertions (`make debug`)
FASTFORK_ASAN=1    address and undefined-behaviour sanitizers (`make asan`)
FASTFORK_TSAN=1    thread sanitizer (`make tsan`)
FASTFORK_ANNOTATE=1  writes fastfork/_core.html, Cython's view of every line
"""

import os
import re
import sys
from glob import glob
from os.path import dirname
from pathlib import Path

import greenlet
from Cython.Build import cythonize
from setuptools import Extension, setup

if not sys.platform.startswith("linux"):
    sys.exit("fastfork runs on Linux only: its core is built on epoll, sendfile and fork.")

VERSION = re.search(r'__version__ = "(.+)"', Path("fastfork/__init__.py").read_text())[1]
DEBUG = os.environ.get("FASTFORK_DEBUG") == "1"
ASAN = os.environ.get("FASTFORK_ASAN") == "1"
TSAN = os.environ.get("FASTFORK_TSAN") == "1"

compile_args = ["-O3", "-fno-plt", "-Wno-unused-function", "-Wno-unreachable-code"]
link_args = []
if DEBUG:
    compile_args = ["-O1", "-g", "-Wno-unused-function"]
if ASAN:
    # greenlet copies pieces of stack about, red zones and all: no checks of stack variables.
    # Undefined behaviour traps: the address sanitizer reports that (tests/sanitized.sh).
    compile_args += ["-g", "-fsanitize=address,undefined", "-fsanitize-undefined-trap-on-error",
                     "--param=asan-stack=0", "-fno-omit-frame-pointer"]
    link_args += ["-fsanitize=address"]

if TSAN:
    # Calls are not followed: where greenlets switch, one that was entered is not left.
    compile_args += ["-g", "-fsanitize=thread", "--param=tsan-instrument-func-entry-exit=0"]
    link_args += ["-fsanitize=thread"]

core = Extension(
    "fastfork._core",
    ["fastfork/_core.pyx"],
    depends=["fastfork/_core.pxd", *sorted(glob("fastfork/core/*"))],
    include_dirs=[dirname(greenlet.__file__)],
    define_macros=[("FASTFORK_VERSION", f'"{VERSION}"')]
    + ([("FASTFORK_DEBUG", "1")] if DEBUG else []),
    extra_compile_args=compile_args,
    extra_link_args=link_args,
)

setup(ext_modules=cythonize([core], annotate=os.environ.get("FASTFORK_ANNOTATE") == "1"))
