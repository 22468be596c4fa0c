"""bench/report.py: what it makes of figures, and that the documents are that."""

import json
import re
import shutil
import subprocess
import sys
from xml.etree import ElementTree

import pytest
from harness import ROOT, bench_module

SVG = "{http://www.w3.org/2000/svg}"
MACHINE = {"cpu": "A CPU", "cores": 2, "kernel": "6.1", "architecture": "x86_64",
           "load_average": [0.5, 0.4, 0.3], "date": "2026-01-02 03:04:05 +0000",
           "python": "3.11.7", "wrk": "4.1.0", "congestion": "cubic", "rounds": 2, "seconds": 1}


@pytest.fixture(scope="module")
def report():
    return bench_module("report")


@pytest.fixture(scope="module")
def blocks():
    return bench_module("blocks")


@pytest.fixture(scope="module")
def pictures():
    return bench_module("pictures")


@pytest.fixture
def results(tmp_path):
    """`results(rows, other=document)`: the figures of a run, and those of other scripts."""
    def write(rows=None, **others):
        documents = dict(others)
        if rows is not None:
            documents["run"] = run(rows)
        for name, document in documents.items():
            (tmp_path / f"{name}.json").write_text(json.dumps(document))
        return bench_module("figures").Results(tmp_path)

    return write


def run(rows):
    works = dict.fromkeys(row["work"] for row in rows)
    return {"command": "run", "arguments": [], "machine": MACHINE, "contenders": {
                "cheroot": {"version": "absent: not installed", "command": "", "how": "ten"},
                "limit": {"version": "-", "command": "limit PORT", "how": "bare"},
                "fastfork": {"version": "1", "command": "fastfork serve a|b", "how": "one"}},
            "works": {name: {"title": f"The {name}", "load": "wrk -c64", "unit": "request",
                             "note": ""} for name in works}, "results": rows}


def row(name, cpu, *, work="hello", ours=10.0, limit=8.0, off=None, **more):
    """A row of two rounds whose CPU times are a tenth of a microsecond apart."""
    rounds = [{"cpu_us": cpu - 0.05, "p99": more.get("p99", 1.0)},
              {"cpu_us": cpu + 0.05, "p99": more.get("p99", 1.0)}]
    if off:
        rounds = [r | {"off_cpu_us": r["cpu_us"] / off} for r in rounds]
    ratio = {"fastfork": cpu / ours, "limit": cpu / limit} | ({"off": off} if off else {})
    return {"work": work, "name": name, "workers": 1, "rate": 5e5 / cpu, "p50": 0.5, "p99": 1.0,
            "p999": None, "cpu_us": cpu, "user_share": 0.4, "waited_share": 0.01, "spread": 0.05,
            "peak_kib": 20480, "ratio": ratio, "rounds": rounds, **more}


def without(name, error, work="hello"):
    return {"work": work, "name": name, "workers": 1, "error": error}


HELLO = [
    row("gunicorn-gthread", 150.0), row("fastfork", 10.0), row("bjoern", 9.0, p99=0.9),
    row("limit", 8.0, p99=0.1, peak_kib=1024), row("fastwsgi", 11.0),
    without("waitress", "invalid: RuntimeError: wrk: Socket errors: read 1|2 <x>"),
    without("granian", "absent: not installed"),
]


def lines(text, start):
    return [line for line in text.splitlines() if line.startswith(start)]


def names(text):
    """The first cells of a table's rows."""
    return [line.split("|")[1].strip() for line in lines(text, "| ")][2:]


# -- tables ----------------------------------------------------------------------------------
def test_the_table_of_a_work(results, blocks):
    text = blocks.block(results(HELLO), "works")
    assert text.startswith("### The hello\n\n`wrk -c64`\n\n| server | CPU x fastfork | CPU x")
    assert names(text) == ["*bare C server*", "bjoern", "**fastfork**", "fastwsgi",
                           "gunicorn-gthread", "waitress", "granian"]
    assert lines(text, "| bjoern")[0].startswith("| bjoern | 0.90 | 1.12 | 0.50 | 0.90 | 20.0 |")
    assert ("| waitress | invalid: RuntimeError: wrk: Socket errors: read 1\\|2 &lt;x&gt; |  |"
            in text)
    assert "| granian | absent: not installed |  |" in text
    assert "p99.9" not in text  # nobody has one
    assert "overhead" not in text


def test_a_work_that_was_measured_by_itself(results, blocks):
    document = run(HELLO)
    document["works"]["hello"] |= {"note": "So it is.", "taken": MACHINE | {"rounds": 8}}
    text = blocks.block(results(run=document), "works")
    assert "\n\n`wrk -c64`. So it is. Measured by itself: A CPU, 2 cores, " in text
    assert ", 8 rounds of 1 s, load average " in text


def test_every_line_of_a_table_has_as_many_cells(results, blocks):
    for name in ("works", "absolute", "contenders", "hello-short", "aims"):
        text = blocks.block(results(HELLO), name)
        table = lines(text, "|")
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1, name


@pytest.mark.parametrize(("work", "key"), [("latency", "p99"), ("flask", "overhead_us")])
def test_sorted_by_what_matters(results, blocks, work, key):
    rows = [row(name, cpu, work=work, **{key: value}) for name, cpu, value in (
        ("fastfork", 10.0, 3.0), ("bjoern", 11.0, 2.0), ("fastwsgi", 9.0, 4.0))]
    assert names(blocks.block(results(rows), "works")) == ["bjoern", "**fastfork**", "fastwsgi"]


def test_tables_without_a_row_of_fastfork(results, blocks):
    rows = [without("fastfork", "invalid: broken"), row("b", 3.0), row("a", 2.0)]
    for other in rows[1:]:
        del other["ratio"]
    text = blocks.block(results(rows), "works")
    assert names(text) == ["a", "b", "fastfork"]
    assert "invalid: broken" in blocks.block(results(rows), "absolute")


def test_absolute_figures_of_transfers_have_bytes_in_them(results, blocks):
    text = blocks.block(results([row("fastfork", 10.0, bytes=1 << 20)]), "absolute")
    assert "| The hello | 10.0 | 50,000 | 50,000 | 0.50 | 1.00 | 1% |" in text
    assert text.startswith("A CPU, 2 cores, Linux 6.1, x86_64, Python 3.11.7, wrk 4.1.0, "
                           "TCP cubic, 2 rounds of 1 s, load average 0.5; "
                           "2026-01-02 03:04:05 +0000.\n")
    assert "interrupted" not in text


def test_a_run_that_was_interrupted(results, blocks):
    found = results(HELLO)
    found.get("run")["complete"] = False
    assert "interrupted" in blocks.block(found, "absolute")


def test_contenders(results, blocks):
    text = blocks.block(results(HELLO), "contenders")
    assert lines(text, "| ")[2:] == [
        "| **fastfork** | 1 | one | `fastfork serve a\\|b` |",
        "| cheroot | absent: not installed | ten |  |",
        "| *bare C server* | - | bare | `limit PORT` |"]


def test_hello_in_short(results, blocks):
    text = blocks.block(results(HELLO), "hello-short")
    assert lines(text, "| 1.00")[0] == "| 1.00 | 1.12 | 1.25 | 1.38 | 18.8 |"
    assert "granian (absent: not installed)" in text
    bare = [without("limit", "invalid: no"), *[r for r in HELLO if r["name"] != "limit"]]
    text = blocks.block(results(bare), "hello-short")
    assert lines(text, "| 0.90")[0] == "| 0.90 | 1.00 | 1.10 | 15.0 |"


def test_frameworks_in_short(results, blocks):
    rows = [row(name, 50.0, work=work, overhead_us=overhead) for work, name, overhead in (
        ("falcon", "fastfork", 9.0), ("falcon", "bjoern", 8.0), ("falcon", "uwsgi", 1.0),
        ("django", "fastfork", 9.0), ("django", "bjoern", 11.0))]
    assert blocks.block(results(HELLO), "frameworks-short") == "No API was part of the run."
    rows += [without("uwsgi", "invalid: x", "django"), row("app-alone", 40.0, work="django")]
    text = blocks.block(results(rows), "frameworks-short")
    assert lines(text, "|")[0] == "|  | Falcon | Django |"
    assert lines(text, "| ")[2:] == ["| **fastfork** | 9.00 | 9.00 |", "| bjoern | 8.00 | 11.0 |",
                                     "| uwsgi | 1.00 | no figure |"]


def test_another_script(results, blocks):
    found = results(instructions={"machine": MACHINE, "results": [
        {"name": "bjoern", "version": "3", "minimal": 16669, "twelve": 56943},
        {"name": "gone", "error": "absent: not installed"},
        {"name": "fastfork", "version": "1", "minimal": 9500, "twelve": 24400}]})
    assert lines(blocks.block(found, "instructions"), "| ")[2:] == [
        "| **fastfork** | 1 | 9,500 | 24,400 |", "| bjoern | 3 | 16,669 | 56,943 |",
        "| gone | absent: not installed |  |  |"]


def test_what_has_not_been_measured_says_so(results, blocks, pictures):
    found = results()
    for name in (*blocks.BLOCKS, *blocks.SCRIPTS):
        assert blocks.block(found, name).startswith("Not measured yet: "), name
    assert set(pictures.draw(found).values()) == {None}


# -- where it stands -------------------------------------------------------------------------
def test_who_is_better_is_said(results, blocks):
    text = blocks.block(results(HELLO), "behind")
    assert ("### CPU time per request\n\n- The hello: bjoern needs 0.900 of fastfork's "
            "(less in 2 of 2 rounds).\n") in text
    assert "- The hello: bjoern has 0.90 ms against 1.00 ms (less in 2 of 2 rounds).\n" in text
    assert "### Peak memory\n\nNo server is better in any work of this run." in text
    for absent in ("limit", "fastwsgi", "granian", "gunicorn"):
        assert absent not in text


def test_memory_and_overhead_are_compared(results, blocks):
    rows = [row("fastfork", 10.0, overhead_us=4.0), row("uwsgi", 12.0, overhead_us=3.5),
            row("nginx", 12.0, peak_kib=10240), row("app-alone", 1.0)]
    text = blocks.block(results(rows), "behind")
    assert "- The hello: uwsgi has 3.50 µs against 4.00 µs." in text
    assert "- The hello: nginx has 10.0 MiB against 20.0 MiB." in text
    assert "alone" not in text


def test_no_valid_row_of_fastfork_is_said(results, blocks):
    found = results([without("fastfork", "invalid: it broke"), row("bjoern", 9.0)])
    text = blocks.block(found, "behind")
    assert ("### No figure at all\n\n- The hello: no valid figure. fastfork: invalid: it broke."
            in text)
    assert "| fastfork: invalid: it broke | **does not hold** |" in blocks.block(found, "aims")


def test_the_other_scripts_are_compared(results, blocks):
    found = results(
        [row("fastfork", 10.0)],
        computing={"results": {"computing": [
            {"name": "fastfork", "ratio_value": 1.7},
            {"name": "bare processes", "ratio_value": 1.9},
            {"name": "gunicorn-sync", "ratio_value": 1.8}]}},
        syscalls={"results": [
            {"name": "fastfork", "connections": 1, "total": "3.000"},
            {"name": "bjoern", "connections": 1, "total": "4.000"},
            {"name": "fastfork", "connections": 16, "total": "2.500"},
            {"name": "bjoern", "connections": 16, "total": "2.100"}]},
        idle={"results": [{"name": "fastfork", "error": "invalid: it broke"},
                          {"name": "bjoern", "kib_value": 0.3}]})
    assert lines(blocks.block(found, "behind"), "- ") == [
        "- System calls per request (16 connections): fastfork has 2.50; bjoern 2.10.",
        "- Operations that compute, two workers over one: fastfork has 1.70; gunicorn-sync 1.80.",
        "- Memory per idle connection: fastfork has no valid figure. invalid: it broke."]


def rows_of_a_transfer(rival):
    return [row("fastfork", 10.0, work="post-1k"), row("nginx", 9.0, work="post-1k"),
            row("bjoern", rival, work="post-1k")]


def late(name, p99, *beside):
    """A row of the open loop; `beside`: fastfork's p99 in its two rounds."""
    found = row(name, 10.0, work="latency", p50=p99, p99=p99, p999=p99)
    if beside:
        mean = sum(beside) / 2
        found["beside"] = {"p50": mean, "p99": mean, "p999": mean}
        for one, own in zip(found["rounds"], beside, strict=True):
            one["beside"] = {"p50": own, "p99": own, "p999": own}
    return found


def test_latencies_are_compared_at_the_same_rate(results, blocks):
    found = results([late("fastfork", 9.0), late("bjoern", 2.0, 1.0, 4.0),
                     late("granian", 2.0, 1.0, 1.0)])
    text = blocks.block(found, "behind").partition("### p99 latency")[2].partition("###")[0]
    assert text.strip() == ("- The latency: bjoern has 2.00 ms against 2.50 ms "
                            "(less in 1 of 2 rounds).")
    (line,) = lines(blocks.block(found, "works"), "| bjoern")
    assert " | 2.50 | 2.50 | 2.50 | " in line


@pytest.mark.parametrize(("rows", "aim", "figure", "verdict"), [
    ([row("fastfork", 10.4), row("limit", 8.0)], "Hello: CPU time per request at most 1.3",
     "1.300", "holds"),
    ([row("fastfork", 10.5), row("limit", 8.0)], "Hello: CPU time per request at most 1.3",
     "1.312, 1.311 to 1.314 in 2 rounds", "**does not hold**"),
    ([row("fastfork", 10.4), without("limit", "invalid: x")], "Hello: CPU time per request at most",
     "limit: invalid: x", "not measured"),
    ([row("fastfork", 10.0), row("bjoern", 10.0)], "Hello: at least 1.0 x", "1.000", "holds"),
    ([row("fastfork", 10.0), row("bjoern", 9.9)], "Hello: at least 1.0 x",
     "0.990, 0.990 to 0.990 in 2 rounds", "**does not hold**"),
    ([row("fastfork", 10.0), without("bjoern", "absent: no")], "Hello: at least 1.0 x",
     "bjoern: absent: no", "not measured"),
    ([row("fastfork", 10.0)], "Hello: at least 2 x", "granian was not measured", "not measured"),
    ([row("fastfork", 9.0, work="file-100m"), row("nginx", 9.0, work="file-100m")],
     "file-100m: at least 0.9 x", "0.900", "holds"),
    ([row("fastfork", 9.0, work="flask", overhead_us=4.0),
      row("bjoern", 9.0, work="flask", overhead_us=4.0)], "Flask: the least",
     "4.000 µs; bjoern 4.000 µs, 0.000 to 0.000 µs more in 2 rounds", "**does not hold**"),
    ([late("fastfork", 9.0), late("bjoern", 2.0, 2.0, 2.0), late("granian", 3.0, 0.5, 3.0),
      without("uwsgi", "invalid: x", "latency")], "Latency at half",
     "1.000 x bjoern (2.000 ms; 2.000 ms), 1.000 to 1.000 in 2 rounds; no figure: uwsgi", "holds"),
    ([late("fastfork", 1.0), late("bjoern", 2.0, 1.0, 4.0), late("granian", 2.0, 1.0, 2.0),
      late("uwsgi", 4.0, 6.0, 8.0)], "Latency at half",
     "1.750 x uwsgi (7.000 ms; 4.000 ms), 1.500 to 2.000 in 2 rounds; "
     "1.250 x bjoern (2.500 ms; 2.000 ms), 0.500 to 2.000 in 2 rounds", "**does not hold**"),
    ([late("fastfork", 1.0), row("bjoern", 9.0, work="latency", p99=2.0)], "Latency at half",
     "fastfork was not measured at the rate of bjoern", "not measured"),
    ([late("fastfork", 1.0), row("bjoern", 9.0, work="latency", p99=2.0, beside={"error": "x"})],
     "Latency at half", "fastfork at the rate of bjoern: x", "**does not hold**"),
    (rows_of_a_transfer(10.1), "post-1k: more", "1.010 x bjoern", "holds"),
    (rows_of_a_transfer(10.0), "post-1k: more", "1.000 x bjoern, 1.000 to 1.000 in 2 rounds",
     "**does not hold**"),
    ([row("fastfork", 10.0, work="log", off=1.11)], "Access log",
     "+11.0 %, 11.000 to 11.000 % in 2 rounds", "**does not hold**"),
    ([row("fastfork", 10.0, work="log", off=1.09)], "Access log", "+9.0 %", "holds"),
])  # fmt: skip
def test_aims(results, blocks, rows, aim, figure, verdict):
    if aim.startswith("file"):  # the ratio of the row itself, which has no other fastfork to it
        rows = [rows[0], rows[1] | {"ratio": {"fastfork": 0.9}}]
    (line,) = lines(blocks.block(results(rows), "aims"), f"| {aim}")[:1]
    assert line.endswith(f"| {figure} | {verdict} |")


@pytest.mark.parametrize(("minimal", "verdict"), [(7500, "holds"), (7501, "**does not hold**")])
def test_aim_of_instructions(results, blocks, minimal, verdict):
    found = results([], instructions={"results": [
        {"name": "fastfork", "minimal": minimal, "twelve": 1},
        {"name": "bjoern", "minimal": 10000, "twelve": 10}]})
    text = blocks.block(found, "aims")
    (line,) = lines(text, "| Instructions, smallest request: at least 25 % below bjoern")
    assert line.endswith(f"| 25.0 % below | {verdict} |")
    assert "below fastwsgi | fastwsgi was not measured | not measured |" in text


# -- rounds of blocking.py -----------------------------------------------------------------------
def turns(**changes):
    """The document of blocking.py: fastfork without slow ones, with them, and its rivals."""
    rows = []
    for name, slow, p99, more in (
            ("fastfork", "none", 0.5, {}),
            ("fastfork", "sleep", 1.0, {"without_value": 2.0, "without_rounds": [1.5, 2.5]}),
            ("bjoern", "sleep", 500.0, {"times_value": 500.0, "times_rounds": [400.0, 600.0]}),
            ("fastfork", "cpu", 2.0, {"without_value": 4.0, "without_rounds": [2.0, 6.0]}),
            ("bjoern", "cpu", 20.0, {"times_value": 10.0, "times_rounds": [5.0, 15.0]})):
        rows.append({"name": name, "slow": slow, "version": "1", "p50": "0.40", "p99": f"{p99:.2f}",
                     "p999": "9.00", "rounds": [{}, {}], **more} if f"{name}_{slow}" not in changes
                    else {"name": name, "slow": slow, "error": changes[f"{name}_{slow}"]})
    return {"machine": MACHINE, "results": [], "turns": rows}


def test_the_table_of_rounds(results, blocks):
    text = blocks.block(results(blocking=turns(bjoern_cpu="invalid: x")), "blocking-turns")
    assert names(text) == ["**fastfork**", "**fastfork**", "bjoern", "**fastfork**", "bjoern"]
    assert "| **fastfork** | waits | 0.40 | 1.00 | 9.00 | 2.00 |  |" in text
    assert "| bjoern | waits | 0.40 | 500.00 | 9.00 |  | 500 |" in text
    assert "| bjoern | invalid: x |" in text and "medians of 2 rounds." in text


def test_there_are_no_rounds(results, blocks):
    document = turns()
    del document["turns"]
    found = results(HELLO, blocking=document)
    assert "has no rounds" in blocks.block(found, "blocking-turns")
    assert lines(blocks.block(found, "aims"), "| While some")[0].endswith(
        "| no rounds in results/blocking.json | not measured |")


@pytest.mark.parametrize(("changes", "aim", "verdict"), [
    ({}, "wait: p99 of the others at most 3 x", "2.000 | holds"),
    ({}, "compute: p99 of the others at most 3 x",
     "4.000, 2.000 to 6.000 in 2 rounds | **does not hold**"),
    ({}, "wait: p99 of the others at bjoern", "500.000 | holds"),
    ({}, "compute: p99 of the others at bjoern",
     "10.000, 5.000 to 15.000 in 2 rounds | **does not hold**"),
    ({}, "wait: p99 of the others at granian-one",
     "granian-one was not measured | not measured"),
    ({"bjoern_cpu": "invalid: x"}, "compute: p99 of the others at bjoern",
     "bjoern: invalid: x | not measured"),
    ({"fastfork_cpu": "invalid: x"}, "compute: p99 of the others at most 3 x",
     "fastfork: invalid: x | **does not hold**"),
])  # fmt: skip
def test_aims_of_rounds(results, blocks, changes, aim, verdict):
    text = blocks.block(results(HELLO, blocking=turns(**changes)), "aims")
    (line,) = lines(text, f"| While some handlers {aim}")
    assert line.endswith(f"| {verdict} |")


def test_ratios_are_of_the_same_round():
    blocking = bench_module("blocking")

    def rounds(*p99s):
        return [{"version": "1", "seconds": {"p50": 1e-3, "p99": p99, "p999": 1.0}} for p99 in p99s]

    found = {turn: rounds(1.0, 1.0, 1.0) for turn in blocking.TURNS}
    found["fastfork", "none"] = rounds(0.1, 0.2, 0.5)
    found["fastfork", "sleep"] = rounds(0.2, 0.2, 2.5)
    found["bjoern", "sleep"] = rounds(4.0, 2.0, 5.0)
    ours = blocking.together(("fastfork", "sleep"), found)
    assert ours["without_rounds"] == [2.0, 1.0, 5.0] and ours["without_value"] == 2.0
    assert ours["p99"] == "200.00" and "times" not in ours
    theirs = blocking.together(("bjoern", "sleep"), found)
    assert theirs["times_rounds"] == [20.0, 10.0, 2.0] and theirs["times"] == "10"
    assert "without" not in theirs
    assert "without" not in blocking.together(("fastfork", "none"), found)
    found["fastfork", "none"][1] = {"error": "invalid: late"}
    assert blocking.together(("fastfork", "none"), found)["error"] == "invalid: late"
    assert "without" not in blocking.together(("fastfork", "sleep"), found)


# -- charts ----------------------------------------------------------------------------------
def rectangles(svg):
    """(class, length) of each bar."""
    return [(e.get("class"), float(e.get("width"))) for e in svg.iter(f"{SVG}rect")
            if e.get("class")]


def test_the_chart_of_hello(results, pictures):
    svg = ElementTree.fromstring(pictures.draw(results(HELLO))["bench-hello.svg"])
    words = [e.text for e in svg.iter(f"{SVG}text")]
    assert [w for w in words if w in {r["name"] for r in HELLO}] == [
        "limit", "bjoern", "fastfork", "fastwsgi", "gunicorn-gthread", "waitress", "granian"]
    assert {"100 %", "89 %", "80 %", "73 %", "5.3 %", "invalid", "absent"} <= set(words)
    kinds, lengths = zip(*rectangles(svg), strict=True)
    assert kinds == ("reference", "rest", "ours", "rest", "rest")
    for length, value in zip(lengths, (1, 8 / 9, 0.8, 8 / 11, 8 / 150), strict=True):
        assert length == pytest.approx(lengths[0] * value, abs=0.1)
    assert "fastfork 80 %" in svg.find(f"{SVG}desc").text
    assert "prefers-color-scheme: dark" in svg.find(f"{SVG}style").text


def test_no_chart_without_its_figures(results, pictures):
    rows = [without("limit", "invalid: no"), *[r | {"ratio": {}} for r in HELLO
                                               if "error" not in r and r["name"] != "limit"]]
    assert pictures.draw(results(rows))["bench-hello.svg"] is None
    assert pictures.draw(results(HELLO))["bench-overhead.svg"] is None


def test_a_bar_that_would_make_dots_of_the_others_is_broken(results, pictures):
    rows = [late("fastfork", 7.0), late("bjoern", 2.0, 1.0, 1.0), late("uwsgi", 4.0, 2.0, 2.0),
            late("granian", 50.0, 0.5, 0.5)]
    assert pictures.draw(results(rows[:1]))["bench-latency.svg"] is None
    svg = ElementTree.fromstring(pictures.draw(results(rows))["bench-latency.svg"])
    broken = [e for e in svg.iter(f"{SVG}polyline") if e.get("class") == "break"]
    assert len(broken) == 2 * 3
    lengths = [length for _, length in rectangles(svg)][4:8]
    assert lengths[1:] == [lengths[3]] * 3
    assert lengths[0] == pytest.approx(lengths[3] / 2, abs=0.1)
    assert "100" in [e.text for e in svg.iter(f"{SVG}text")]


def test_everything_is_on_the_paper(results, pictures):
    rows = [row(name, cpu, work=work, overhead_us=cpu - 6.0)
            for work in ("falcon", "flask", "django", "post-1k", "post-64k", "generated-1m",
                         "file-100m", "upload-10m")
            for name, cpu in (("fastfork", 10.0), ("gunicorn-gthread", 1234.5), ("bjoern", 5.0))]
    for name, text in pictures.draw(results(rows)).items():
        if name in ("bench-overhead.svg", "bench-transfers.svg"):
            svg = ElementTree.fromstring(text)
            width, height = float(svg.get("width")), float(svg.get("height"))
            for e in svg.iter(f"{SVG}text"):
                assert 0 < float(e.get("x")) < width - 7 * len(e.text)  # a letter has 7 units
                assert 0 < float(e.get("y")) < height - 8


# -- documents -------------------------------------------------------------------------------
PAGE = """# A page

<!-- bench: aims -->
| something | by hand |
<!-- end -->

- In a list.

  <!-- bench: hello-short -->
  <!-- end -->

The end.
"""


def test_only_what_is_between_the_markers_changes(report):
    once = report.filled(PAGE, lambda name: f"first {name}\n\nsecond")
    assert once == """# A page

<!-- bench: aims -->

first aims

second

<!-- end -->

- In a list.

  <!-- bench: hello-short -->

  first hello-short

  second

  <!-- end -->

The end.
"""
    assert report.filled(once, lambda name: f"first {name}\n\nsecond") == once


def test_a_block_that_nobody_makes_is_an_error(report, results, blocks):
    with pytest.raises(KeyError, match="nothing"):
        report.filled("<!-- bench: nothing -->\n<!-- end -->\n",
                      lambda name: blocks.block(results(HELLO), name))


def test_figures_written_by_hand_are_found(tmp_path):
    """A checkout whose figures change, or whose page somebody has edited."""
    for name in ("README.md", "docs/benchmarks.md", "docs/scaling.svg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "bench/results").mkdir(parents=True)
    for file in ROOT.glob("bench/*.py"):
        shutil.copy(file, tmp_path / "bench")
    (tmp_path / "bench/results/run.json").write_text(json.dumps(run(HELLO)))

    def command(*flags):
        return subprocess.run([sys.executable, tmp_path / "bench/report.py", *flags],
                              capture_output=True, text=True)

    assert command("--check").returncode == 1
    assert command().stdout.split() == [
        "written:", "docs/benchmarks.md", "written:", "README.md", "written:",
        "docs/bench-hello.svg"]
    assert (command("--check").returncode, command().stdout) == (0, "")
    page = tmp_path / "docs/benchmarks.md"
    page.write_text(page.read_text().replace("| bjoern | 0.90 |", "| bjoern | 1.90 |"))
    done = command("--check")
    assert done.returncode == 1
    assert done.stdout == ("differs from the figures: docs/benchmarks.md "
                           "(make -C bench report)\n")
    command()
    (tmp_path / "bench/results/run.json").unlink()
    command()
    assert not (tmp_path / "docs/bench-hello.svg").exists()


def test_documents_show_the_figures():
    done = subprocess.run([sys.executable, ROOT / "bench/report.py", "--check"],
                          capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_block_is_shown(blocks):
    text = "".join((ROOT / name).read_text() for name in ("README.md", "docs/benchmarks.md"))
    shown = set(re.findall(r"<!-- bench: (\S+) -->", text))
    assert shown == {*blocks.BLOCKS, *blocks.SCRIPTS}
