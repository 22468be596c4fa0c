"""When bench/instructions.py says that requests have become dearer."""

import importlib.util

import pytest
from harness import ROOT

STORED = {"minimal": 10_000, "twelve": 25_000}
TOOLS = {"interpreter": "3.11.7", "C library": "glibc 2.36"}


@pytest.fixture(scope="module")
def judge():
    spec = importlib.util.spec_from_file_location("bench_judge", ROOT / "bench/judge.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("minimal", "twelve", "status", "said"), [
    (10_000, 25_000, "WITHIN", ["(+0.0%)", "(+0.0%)"]),
    (10_200, 24_500, "WITHIN", ["(+2.0%)", "(-2.0%)"]),
    (10_201, 25_000, "DEARER", ["(+2.0%), dearer by more than 2%", "(+0.0%)"]),
    (10_000, 30_000, "DEARER", ["(+0.0%)", "(+20.0%), dearer by more than 2%"]),
    (9_799, 25_000, "WITHIN", ["(-2.0%), cheaper: store it as the new baseline", "(+0.0%)"]),
    (5_000, 30_000, "DEARER", ["(-50.0%), cheaper: store it as the new baseline",
                               "(+20.0%), dearer by more than 2%"]),
])  # fmt: skip
def test_two_per_cent(judge, minimal, twelve, status, said):
    verdict = judge.judge(STORED, {"minimal": minimal, "twelve": twelve})
    assert verdict.status == getattr(judge, status)
    assert len(verdict.lines) == 2
    for line, kind, end in zip(verdict.lines, STORED, said, strict=True):
        assert line.startswith(f"{kind}: {STORED[kind]:,} in the baseline, ")
        assert line.endswith(end)


def test_another_limit(judge):
    counts = {"minimal": 10_600, "twelve": 25_000}
    assert judge.judge(STORED, counts, 0.05).status == judge.DEARER
    assert judge.judge(STORED, counts, 0.07).status == judge.WITHIN


@pytest.mark.parametrize(("stored", "counts", "line"), [
    (STORED, {"minimal": 10_000}, "twelve: not counted here"),
    ({"minimal": 10_000}, STORED, "twelve: not in the baseline"),
    ({"minimal": 1, "twelve": None}, STORED, "twelve: not in the baseline"),
    ({}, {}, "nothing was counted"),
])  # fmt: skip
def test_what_was_not_compared_is_not_passed(judge, stored, counts, line):
    verdict = judge.judge(stored, counts)
    assert verdict.status == judge.UNKNOWN
    assert verdict.lines[-1] == line


def test_other_tools(judge):
    baseline = {"toolchain": TOOLS}
    assert judge.comparable(baseline, TOOLS) is None
    verdict = judge.comparable(baseline, TOOLS | {"C library": "glibc 2.41"})
    assert verdict.status == judge.UNKNOWN
    assert verdict.lines == (
        "C library: the baseline was counted with glibc 2.36, here is glibc 2.41",)


def test_tools_that_nobody_wrote_down(judge):
    verdict = judge.comparable({}, TOOLS)
    assert verdict.status == judge.UNKNOWN
    assert len(verdict.lines) == 2
    verdict = judge.comparable({"toolchain": TOOLS | {"Cython": "3.3.1"}}, TOOLS)
    assert verdict.lines == (
        "Cython: the baseline was counted with 3.3.1, here is nothing known",)
