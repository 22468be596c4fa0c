"""Tables and charts of the documents, made from results/*.json.

    python bench/report.py [--check]

What stands between `<!-- bench: NAME -->` and `<!-- end -->` in docs/benchmarks.md and README.md
is replaced by what blocks.py makes of the figures, and docs/bench-*.svg are drawn again.  With
--check nothing is written: it names the files that are not what they should be, exit status 1.
"""

import argparse
import re
import sys
import textwrap
from pathlib import Path

import blocks
import pictures
from figures import Results

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = ("docs/benchmarks.md", "README.md")
MARKED = re.compile(r"^( *)<!-- bench: (\S+) -->\n(.*?)^ *<!-- end -->\n", re.M | re.S)


def filled(text, make):
    """`text` with `make(name)` between each pair of markers, indented as they are."""
    def replace(found):
        indent, name, _ = found.groups()
        return (f"{indent}<!-- bench: {name} -->\n\n{textwrap.indent(make(name), indent)}\n\n"
                f"{indent}<!-- end -->\n")

    return MARKED.sub(replace, text)


def wanted(root):
    """What each file of a checkout should hold: {path: its text, or None if it should not be
    there}."""
    results, files = Results(root / "bench/results"), {}
    for name in DOCUMENTS:
        files[root / name] = filled((root / name).read_text(),
                                    lambda block: blocks.block(results, block))
    for name, svg in pictures.draw(results).items():
        files[root / "docs" / name] = svg
    return files


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    p.add_argument("--check", action="store_true", help="write nothing, name what differs")
    options = p.parse_args()
    status = 0
    for path, text in wanted(ROOT).items():
        if (path.read_text() if path.exists() else None) == text:
            continue
        if options.check:
            print(f"differs from the figures: {path.relative_to(ROOT)} "
                  "(make -C bench report)")
            status = 1
        elif text is None:
            path.unlink()
        else:
            path.write_text(text)
            print(f"written: {path.relative_to(ROOT)}")
    return status


if __name__ == "__main__":
    sys.exit(main())
