"""What is in a wheel: everything that runs, nothing that was only needed to build it."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_what_the_wheel_holds(tmp_path):
    """The files that setup.py puts beside the extension (which another step builds)."""
    subprocess.run([sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(tmp_path)],
                   cwd=ROOT, check=True, capture_output=True, timeout=120)
    files = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    modules = {f"fastfork/{p.name}" for p in (ROOT / "fastfork").glob("*.py")}
    assert files == modules | {"fastfork/py.typed", "fastfork/_core.pyi"}


def test_run_time_dependencies():
    """httptools and greenlet, nothing else where Python reads TOML; the rest are extras."""
    text = (ROOT / "pyproject.toml").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("dependencies = ")]
    wanted = line[len("dependencies = ["):-1].split(",")
    names = [part.split(">=")[0].strip(' "') for part in wanted]
    assert names == ["httptools", "greenlet", "tomli"]
    assert wanted[-1].rstrip('" ').endswith("; python_version < '3.11'")
