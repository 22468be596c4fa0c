"""Horizontal bars as SVG: one row for each name, one panel of bars or several beside each other."""

import math
from dataclasses import dataclass

from drawing import document, line, text

WIDTH = 720
MARGIN, NAMES, GAP = 24, 136, 20  # beside the paper's edge, for the names, behind a panel
TOP, ROW, BAR = 92, 24, 14  # where the rows begin; the height of a row and of its bar
LETTER = 7.8  # the width of a letter of a label, at most

STYLE = """\
  .heading { font-weight: 600; }
  .ours { fill: var(--first); }
  text.ours { font-weight: 600; }
  .rest { fill: var(--rest); }
  text.rest { fill: var(--text); }
  .reference { fill: none; stroke: var(--quiet); stroke-dasharray: 3 2; }
  text.reference { fill: var(--quiet); stroke: none; }
  .break { stroke: var(--ground); stroke-width: 3; }
"""


@dataclass(frozen=True)
class Panel:
    """Bars on a scale of their own that begins at 0: {name: (value, label)}; what is written in
    place of the bar of a name that has no value: {name: words}; and the value beyond which a bar
    is broken, so that the others are more than dots."""

    heading: str
    bars: dict[str, tuple[float, str]]
    missing: dict[str, str]
    cut: float = math.inf

    def end(self):
        """The value at the end of the scale: the highest of those that are not broken."""
        return max(value for value, _ in self.bars.values() if value <= self.cut)


def draw(title, subtitle, kinds, panels, notes=()):
    """The SVG; `kinds` are the names from the top down, each with "ours", "rest" or "reference".

    ValueError if a panel has no bar.
    """
    if not all(panel.bars for panel in panels):
        raise ValueError("a panel has no bar")
    notes = list(notes)
    if any(value > panel.end() for panel in panels for value, _ in panel.bars.values()):
        notes.append("A broken bar is longer than there is room for.")
    bottom = TOP + ROW * len(kinds)
    parts = [text(MARGIN, 30, title, "title"), text(MARGIN, 50, subtitle, "quiet")]
    for number, (name, kind) in enumerate(kinds.items()):
        parts.append(text(MARGIN, TOP + ROW * number + 12, name, kind))
    width = (WIDTH - MARGIN - NAMES) / len(panels)
    for number, panel in enumerate(panels):
        parts += bars(panel, kinds, MARGIN + NAMES + number * width, width - GAP, bottom)
    parts += [text(MARGIN, bottom + 22 + 18 * number, note, "quiet")
              for number, note in enumerate(notes)]
    height = bottom + 18 + 18 * len(notes)
    return document(WIDTH, height, title, in_words(subtitle, panels), STYLE, parts)


def bars(panel, kinds, left, width, bottom):
    """One panel: its heading, where 0 is, and the bars with their values."""
    room = width - LETTER * max(len(label) for _, label in panel.bars.values()) - 6
    yield text(left, TOP - 12, panel.heading, "heading")
    yield line("grid", [(left, TOP - 4), (left, bottom)])
    for number, (name, kind) in enumerate(kinds.items()):
        y = TOP + ROW * number
        if name not in panel.bars:
            yield text(left + 6, y + 12, panel.missing.get(name, "-"), "quiet")
            continue
        value, label = panel.bars[name]
        length = round(room * min(max(value / panel.end(), 0), 1), 1)
        yield (f'<rect class="{kind}" x="{left:g}" y="{y:g}" width="{length:g}" height="{BAR}" '
               'rx="1"/>')
        if value > panel.end():
            for x in (left + length - 14, left + length - 8):
                yield line("break", [(x - 3, y + BAR + 1), (x + 3, y - 1)])
        yield text(left + length + 6, y + 12, label, kind)


def in_words(subtitle, panels):
    """The figures, for who cannot see the chart."""
    return " ".join([f"{subtitle}.", *(
        f"{panel.heading}: " + ", ".join(
            f"{name} {label}" for name, (_, label) in panel.bars.items()) + "."
        for panel in panels)])
