"""What the charts have in common: the paper, its colours for light and for dark, words and lines.

A chart has a ground of its own, so it can be read in any page.
"""

from html import escape

STYLE = """
  svg { --ground: #ffffff; --text: #1f2328; --quiet: #59636e; --grid: #e3e6ea;
        --first: #0b62c4; --second: #b3470b; --rest: #9aa4af; }
  @media (prefers-color-scheme: dark) {
    svg { --ground: #0d1117; --text: #e6edf3; --quiet: #9198a1; --grid: #2a3038;
          --first: #6cb0ff; --second: #f5a25d; --rest: #656e79; }
  }
  text { font: 13px system-ui, sans-serif; fill: var(--text); }
  .title { font-size: 15px; font-weight: 600; }
  .quiet { fill: var(--quiet); }
  .grid { stroke: var(--grid); }
"""


def document(width, height, title, description, style, parts):
    """The whole SVG; `title` and `description` are for who cannot see it."""
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" aria-labelledby="title description">',
        f'<title id="title">{escape(title)}</title>',
        f'<desc id="description">{escape(description)}</desc>',
        f"<style>{STYLE}{style}</style>",
        f'<rect width="{width}" height="{height}" rx="6" fill="var(--ground)"/>',
        *parts, "</svg>", ""])


def line(kind, points):
    return f'<polyline class="{kind}" points="{" ".join(f"{x:g},{y:g}" for x, y in points)}"/>'


def text(x, y, words, kind="", anchor="start"):
    return (f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">'
            f"{escape(words)}</text>")
