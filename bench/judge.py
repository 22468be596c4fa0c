"""Whether instructions per request have risen: counts beside those of a stored baseline.

The functions here only compare; bench/instructions.py counts, and `--check` does what they say.
"""

from dataclasses import dataclass

LIMIT = 0.02            # of the baseline's count; counts of one source differ by a fifth of it

WITHIN, DEARER, UNKNOWN = range(3)      # what the command's exit status says


@dataclass(frozen=True)
class Verdict:
    """An exit status and the lines that say why."""

    status: int
    lines: tuple[str, ...]


def comparable(baseline, toolchain):
    """None if counts with `toolchain` can be held against this baseline, else a Verdict.

    Both are what `instructions.py` writes: the document, and its dict of what decides how many
    instructions the same source takes.
    """
    theirs = baseline.get("toolchain", {})
    lines = [f"{what}: the baseline was counted with {theirs.get(what, 'nothing known')}, "
             f"here is {toolchain.get(what, 'nothing known')}"
             for what in sorted(theirs.keys() | toolchain.keys())
             if theirs.get(what) != toolchain.get(what)]
    return Verdict(UNKNOWN, tuple(lines)) if lines else None


def judge(stored, counts, limit=LIMIT):
    """The Verdict on `counts` beside `stored`: instructions per request, by kind of request.

    Both must have the same kinds: what was not compared is not passed.
    """
    status, lines = WITHIN, []
    for kind in [*stored, *(kind for kind in counts if kind not in stored)]:
        before, now = stored.get(kind), counts.get(kind)
        if before is None or now is None:
            lines.append(f"{kind}: not {'in the baseline' if before is None else 'counted here'}")
            status = UNKNOWN
            continue
        change = (now - before) / before
        lines.append(f"{kind}: {before:,} in the baseline, {now:,} here ({change:+.1%})")
        if change > limit:
            lines[-1] += f", dearer by more than {limit:.0%}"
            status = max(status, DEARER)
        elif change < -limit:
            lines[-1] += ", cheaper: store it as the new baseline"
    if not lines:
        return Verdict(UNKNOWN, ("nothing was counted",))
    return Verdict(status, tuple(lines))
