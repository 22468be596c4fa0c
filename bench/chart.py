"""The chart of scaling.py: operations per second over the number of workers, as SVG."""

from drawing import document, line, text

WIDTH, HEIGHT = 720, 440
LEFT, RIGHT, TOP, BOTTOM = 64, 160, 56, 56  # margins of the plot
TITLE = "A 100 ms operation: operations per second by number of workers"

STYLE = """\
  .ideal { stroke: var(--quiet); stroke-dasharray: 5 4; }
  .first { stroke: var(--first); fill: none; stroke-width: 2; }
  .second { stroke: var(--second); fill: none; stroke-width: 2; }
  .first.mark { fill: var(--first); }
  .first.name { fill: var(--first); stroke: none; font-weight: 600; }
  .second.name { fill: var(--second); stroke: none; font-weight: 600; }
"""


def draw(rows, ideal):
    """The SVG of scaling.py's rows "waiting"; `ideal` are the operations per second of a worker.

    The first contender has dots, the second has squares around them, so that both can be seen
    where they are the same.  ValueError if there are no rows or more than two contenders.
    """
    contenders = list(dict.fromkeys(row["contender"] for row in rows))
    if not 1 <= len(contenders) <= 2:
        raise ValueError(f"one or two contenders can be drawn, not {len(contenders)}")
    series = {name: sorted((row["workers"], row["rate_value"]) for row in rows
                           if row["contender"] == name) for name in contenders}
    most = max(row["workers"] for row in rows)
    highest = max([most * ideal, *(row["rate_value"] for row in rows)]) * 1.04
    plot = Plot(most, highest)
    parts = [*frame(plot, sorted({row["workers"] for row in rows})),
             line("ideal", [plot.at(0, 0), plot.at(most, most * ideal)])]
    for kind, name in zip(("first", "second"), contenders, strict=False):
        points = [plot.at(*point) for point in series[name]]
        parts.append(line(kind, points))
        parts += [MARKS[kind](x, y) for x, y in points]
    parts += legend(plot, series, ideal)
    return document(WIDTH, HEIGHT, TITLE, in_words(series), STYLE, parts)


class Plot:
    """Where the figures are on the paper."""

    def __init__(self, most, highest):
        self.most, self.highest = most, highest

    def at(self, workers, rate):
        x = LEFT + workers / self.most * (WIDTH - LEFT - RIGHT)
        y = HEIGHT - BOTTOM - rate / self.highest * (HEIGHT - TOP - BOTTOM)
        return round(x, 1), round(y, 1)


def steps(highest):
    """Round numbers from 0 up to `highest`, four to nine of them above 0."""
    power = 10.0 ** (len(str(int(highest))) - 1)
    size = next(power * part for part in (2, 1, 0.5, 0.2, 0.1) if highest / (power * part) >= 4)
    return [size * n for n in range(int(highest / size) + 1)]


def frame(plot, workers):
    """Title, axes and what is written along them."""
    left, bottom = plot.at(0, 0)
    right, top = plot.at(plot.most, plot.highest)
    middle = (top + bottom) / 2
    yield text(LEFT - 40, 30, TITLE, "title")
    for rate in steps(plot.highest):
        y = plot.at(0, rate)[1]
        yield line("grid", [(left, y), (right, y)])
        yield text(left - 10, y + 4, f"{rate:g}", "quiet", "end")
    for number in workers:
        x = plot.at(number, 0)[0]
        yield line("grid", [(x, bottom), (x, bottom + 5)])
        yield text(x, bottom + 20, str(number), "quiet", "middle")
    yield text((left + right) / 2, HEIGHT - 12, "workers", anchor="middle")
    yield (f'<text x="18" y="{middle:g}" text-anchor="middle" '
           f'transform="rotate(-90 18 {middle:g})">operations per second</text>')


def legend(plot, series, ideal):
    """Each line's name and where it ends, to the right of it."""
    x, y = plot.at(plot.most, plot.highest)
    x, y = x + 16, y + 14
    for kind, (name, points) in zip(("first", "second"), series.items(), strict=False):
        yield MARKS[kind](x + 5, y - 4)
        yield text(x + 18, y, name, f"{kind} name")
        yield text(x + 18, y + 17, f"{points[-1][1]:.1f}/s with {points[-1][0]}", "quiet")
        y += 46
    yield line("ideal", [(x - 4, y - 4), (x + 14, y - 4)])
    yield text(x + 18, y, f"{ideal:g}/s each", "quiet")


def circle(x, y):
    return f'<circle class="first mark" cx="{x:g}" cy="{y:g}" r="4"/>'


def square(x, y):
    return f'<rect class="second mark" x="{x - 7:g}" y="{y - 7:g}" width="14" height="14"/>'


MARKS = {"first": circle, "second": square}


def in_words(series):
    """The figures, for who cannot see the chart."""
    return ". ".join(
        f"{name}: " + ", ".join(f"{rate:.1f} with {workers}" for workers, rate in points)
        for name, points in series.items()) + "."
