"""The figures of all scripts, as results/*.json has them, and how a figure is written."""

import html
import json

OURS = "fastfork"
# What servers are measured by; they are no servers of applications.
REFERENCES = ("limit", "app-alone", "one import", "bare processes")
NOT_PYTHON = ("nginx",)


class Missing(Exception):
    """There is no figure, and why; `ours`: because fastfork's own row is invalid."""

    def __init__(self, reason, ours=False):
        super().__init__(reason)
        self.ours = ours


class Results:
    """The documents of a directory by the names of their files: `get("run")` is run.json's."""

    def __init__(self, directory):
        self.documents = {file.stem: json.loads(file.read_text())
                          for file in sorted(directory.glob("*.json"))}

    def get(self, name):
        """The document, or None."""
        return self.documents.get(name)

    def works(self):
        """The works of run.json that have rows, in its order: {name: what it is}."""
        run = self.get("run") or {"works": {}}
        return {name: work for name, work in run["works"].items() if self.rows(name)}

    def rows(self, work):
        """The rows of a work, of all contenders."""
        run = self.get("run") or {"results": []}
        return [row for row in run["results"] if row["work"] == work]

    def row(self, work, name=OURS):
        """A contender's valid row; raises Missing."""
        for row in self.rows(work):
            if row["name"] == name:
                if "error" in row:
                    raise Missing(f"{name}: {row['error']}", ours=name == OURS)
                return row
        raise Missing(f"{name} was not measured")

    def rivals(self, work, python=False):
        """The valid rows of other servers, and the names of those whose rows are not."""
        rows = [row for row in self.rows(work) if not row["name"].startswith(OURS)
                and row["name"] not in (*REFERENCES, *(NOT_PYTHON if python else ()))]
        return ([row for row in rows if "error" not in row],
                [row["name"] for row in rows if "error" in row])


def cost(row, base=OURS):
    """CPU time per request as a multiple of that of `base` in the same rounds; None: unknown."""
    return 1.0 if row["name"] == base else row.get("ratio", {}).get(base)


def figure(value, unit=""):
    """Three digits or all before the point, "" for None."""
    if value is None:
        return ""
    digits = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:,.{digits}f}{unit}"


def cell(words):
    """Words that fit into a cell of a table in Markdown, whatever they hold."""
    return html.escape(" ".join(str(words).split()), quote=False).replace("|", "\\|")


def percent(share):
    return "" if share is None else f"{share:.0%}"


def mebibytes(kibibytes):
    return None if kibibytes is None else kibibytes / 1024


def machine(facts):
    """The machine of a run in one line."""
    parts = [facts["cpu"], f"{facts['cores']} cores", f"Linux {facts['kernel']}",
             facts["architecture"]]
    parts += [f"{words} {facts[key]}" for key, words in (("python", "Python"), ("wrk", "wrk"))
              if key in facts]
    if "congestion" in facts:
        parts.append(f"TCP {facts['congestion']}")
    if "rounds" in facts:
        parts.append(f"{facts['rounds']} rounds of {facts['seconds']} s")
    parts.append(f"load average {facts['load_average'][0]:.1f}")
    return f"{', '.join(parts)}; {facts['date']}"
