"""The built-in demo application: ``fastfork serve fastfork.demo:app -w 4``.

A plain WSGI application (PEP 3333) without dependencies, in one file.  The index page links
to one small handler per thing worth trying: hello, the environ, an upload with its checksum,
a streamed download, a file by sendfile, a slow handler and an error.

Nothing is stored, no file but this one is read, and no variable of the process is shown.
What comes from the client is checked against bounds (400) and escaped before it is printed.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import platform
import random
import re
import time
from collections.abc import Callable, Iterable, Iterator
from email.utils import formatdate, parsedate_to_datetime
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs, quote

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

BLOCK = 64 * 1024  # bytes read from an upload, or sent of a download, at a time
MEBIBYTE = 1024 * 1024
MAX_DOWNLOAD = 1024  # MiB
MAX_SLEEP = 30.0  # seconds
MAX_PARTS = 100  # parts of a multipart form
MAX_PART_HEAD = 16 * 1024  # bytes of header fields of one part


class Reply(NamedTuple):
    """What a handler answers; `app` turns it into a WSGI response."""

    status: str
    headers: list[tuple[str, str]]
    body: Iterable[bytes]


class Refused(Exception):
    """The request cannot be answered as asked: a status line and one sentence for the client."""

    def __init__(self, status: str, message: str, *headers: tuple[str, str]) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers


class Route(NamedTuple):
    """One page of the demo; the index is drawn from these."""

    path: str
    methods: tuple[str, ...]
    handler: Callable[[WSGIEnvironment], Reply]
    title: str
    about: str
    query: str  # "?name=value" of the example, or nothing
    curl: str  # curl's options in the example


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """The WSGI application.  HEAD is answered like GET; the server leaves the body out."""
    try:
        reply = route_of(environ).handler(environ)
    except Refused as refused:
        reply = refusal(environ, refused)
    start_response(reply.status, reply.headers)
    return reply.body


def banner(url: str) -> str:
    """What to try, for the terminal of whoever has started the demo at `url`."""
    url = url.rstrip("/")
    lines = [(f"{url}/", "everything, in a browser")]
    lines += [(curl_line(route, url), route.title.lower()) for route in ROUTES[1:4]]
    width = max(len(command) for command, _ in lines)
    rows = [f"{command:<{width}}  # {about}" for command, about in lines]
    return "try:  " + "\n      ".join(rows)


# -- routing -----------------------------------------------------------------------------------


def route_of(environ: WSGIEnvironment) -> Route:
    """The route of this request, or 404, or 405 with `Allow` (RFC 9110, 15.5.6)."""
    path = environ.get("PATH_INFO") or "/"
    method = environ["REQUEST_METHOD"]
    for route in ROUTES:
        if route.path == path:
            if method in route.methods or (method == "HEAD" and "GET" in route.methods):
                return route
            allow = [*route.methods, *(["HEAD"] if "GET" in route.methods else [])]
            raise Refused(
                "405 Method Not Allowed",
                f"{path} does not take {method}, only {', '.join(allow)}.",
                ("Allow", ", ".join(allow)),
            )
    raise Refused("404 Not Found", "There is nothing at this path.")


def base_url(environ: WSGIEnvironment) -> str:
    """Where the client reached the application, without a slash at the end.

    A `Host` that is no plain host name or address is replaced by the server's own name.
    """
    host = environ.get("HTTP_HOST", "")
    if not re.fullmatch(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?", host):
        host = f"{environ['SERVER_NAME']}:{environ['SERVER_PORT']}"
    prefix = quote(environ.get("SCRIPT_NAME", "").encode("latin-1")).rstrip("/")
    return f"{environ['wsgi.url_scheme']}://{host}{prefix}"


def curl_line(route: Route, url: str) -> str:
    """The command that tries this route on the server at `url`."""
    target = f"{url}{route.path}{route.query}"
    if route.query:
        target = f"'{target}'"
    return " ".join(word for word in ("curl", route.curl, target) if word)


def parameter(
    environ: WSGIEnvironment, name: str, default: float, low: float, high: float
) -> float:
    """A number from the query string; 400 if it is not one or is out of bounds."""
    values = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True).get(name)
    if values is None:
        return default
    try:
        number = float(values[-1])
    except ValueError:
        number = float("nan")
    if not low <= number <= high:  # true for NaN, too
        raise Refused("400 Bad Request", f"{name} must be a number from {low:g} to {high:g}.")
    return number


# -- replies -----------------------------------------------------------------------------------


def text_reply(text: str, status: str = "200 OK") -> Reply:
    return bytes_reply(text.encode(), "text/plain; charset=utf-8", status)


def json_reply(value: object) -> Reply:
    """Pretty-printed, pure ASCII and without any character that means something in HTML."""
    text = json.dumps(value, indent=2) + "\n"
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return bytes_reply(text.encode("ascii"), "application/json")


def html_reply(title: str, main: str, status: str = "200 OK") -> Reply:
    """`main` is HTML; `title` is text."""
    page = PAGE.substitute(
        title=escape(title), main=main, style=STYLE, script=SCRIPT,
    )  # fmt: skip
    reply = bytes_reply(page.encode(), "text/html; charset=utf-8", status)
    reply.headers.append(("Content-Security-Policy", POLICY))
    return reply


def bytes_reply(body: bytes, content_type: str, status: str = "200 OK") -> Reply:
    headers = [
        ("Content-Type", content_type),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
    ]
    return Reply(status, headers, [body])


def refusal(environ: WSGIEnvironment, refused: Refused) -> Reply:
    """A page for a browser, one line for everything else."""
    if "text/html" in environ.get("HTTP_ACCEPT", ""):
        code, _, reason = refused.status.partition(" ")
        main = REFUSAL.substitute(
            code=code, reason=escape(reason), message=escape(refused.message),
            home=escape(base_url(environ)) + "/",
        )  # fmt: skip
        reply = html_reply(refused.status, main, refused.status)
    else:
        reply = text_reply(refused.message + "\n", refused.status)
    reply.headers.extend(refused.headers)
    return reply


# -- the pages ---------------------------------------------------------------------------------


def index(environ: WSGIEnvironment) -> Reply:
    url = base_url(environ)
    software = environ.get("SERVER_SOFTWARE", "")
    facts = {
        "Worker": f"pid {os.getpid()}",
        "Server": software.replace("/", " ") or "unknown",
        "Python": platform.python_version(),
        "Protocol": environ["SERVER_PROTOCOL"],
    }
    return html_reply(
        "fastfork demo",
        INDEX.substitute(
            facts="".join(
                f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
                for name, value in facts.items()
            ),
            rows="".join(
                ROW.substitute(
                    methods="".join(f"<span class=method>{m}</span>" for m in route.methods),
                    href=escape(f"{url}{route.path}{route.query}"),
                    path=escape(route.path),
                    query=escape(route.query),
                    title=escape(route.title),
                    about=escape(route.about),
                    curl=escape(curl_line(route, url)),
                )
                for route in ROUTES[1:]
            ),
        ),
    )


def hello(environ: WSGIEnvironment) -> Reply:
    return text_reply(f"Hello from worker {os.getpid()}.\n")


def show_environ(environ: WSGIEnvironment) -> Reply:
    """What the server has passed to the application.

    Strings, numbers, booleans and tuples as they are, of anything else the type.  Variables
    of the process are left out, should a server have mixed them in.
    """
    mixed_in = os.environ.keys() - CGI_VARIABLES
    return json_reply({key: shown(environ[key]) for key in sorted(environ.keys() - mixed_in)})


def shown(value: Any) -> object:
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, (tuple, list)):
        return [shown(item) for item in value]
    kind = value if isinstance(value, type) else type(value)
    return f"<{kind.__module__}.{kind.__qualname__}>"


def upload(environ: WSGIEnvironment) -> Reply:
    """The form, or size and SHA-256 of what was sent: of the whole body and, when a form was
    sent, of each of its parts."""
    if environ["REQUEST_METHOD"] in ("GET", "HEAD"):
        return html_reply("Upload · fastfork demo", UPLOAD.substitute(home=base_url(environ) + "/"))
    content_type = environ.get("CONTENT_TYPE", "")
    whole = Digest()
    blocks = whole.of_all(request_body(environ))
    answer: dict[str, object] = {"worker": os.getpid(), "content_type": content_type}
    boundary = re.match(r'multipart/form-data;.*\bboundary="?([^";,]{1,70})', content_type, re.I)
    if boundary:
        answer["parts"] = list(form_parts(blocks, boundary[1].encode("latin-1")))
    for _ in blocks:
        pass
    answer["size"], answer["sha256"] = whole.size, whole.sha256
    return json_reply(answer)


def download(environ: WSGIEnvironment) -> Reply:
    """A generator without a Content-Length: the server chunks it (RFC 9112, 7.1)."""
    size = int(parameter(environ, "mb", 64, 1, MAX_DOWNLOAD)) * MEBIBYTE
    headers = [
        ("Content-Type", "application/octet-stream"),
        ("Content-Disposition", f'attachment; filename="fastfork-{size // MEBIBYTE}MiB.bin"'),
        ("Cache-Control", "no-store"),
    ]
    return Reply("200 OK", headers, (NOISE for _ in range(size // BLOCK)))


def source_file(environ: WSGIEnvironment) -> Reply:
    """This very file, through `wsgi.file_wrapper`."""
    file = SOURCE.open("rb")
    about = os.fstat(file.fileno())
    headers = [("Last-Modified", formatdate(about.st_mtime, usegmt=True))]
    if environ["REQUEST_METHOD"] == "HEAD" or not_modified(environ, about.st_mtime):
        file.close()
        if environ["REQUEST_METHOD"] != "HEAD":
            return Reply("304 Not Modified", headers, [])
    headers += [
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Length", str(about.st_size)),
        ("X-Content-Type-Options", "nosniff"),
    ]
    if file.closed:
        return Reply("200 OK", headers, [])
    wrap = environ.get("wsgi.file_wrapper")
    body = wrap(file, BLOCK) if wrap else iter(lambda: file.read(BLOCK), b"")
    return Reply("200 OK", headers, body)


def not_modified(environ: WSGIEnvironment, mtime: float) -> bool:
    """RFC 9110, 13.1.3; a date that cannot be read is no condition."""
    try:
        since = parsedate_to_datetime(environ.get("HTTP_IF_MODIFIED_SINCE", ""))
    except (TypeError, ValueError):
        return False
    return int(mtime) <= since.timestamp()


def slow(environ: WSGIEnvironment) -> Reply:
    seconds = parameter(environ, "seconds", 2, 0, MAX_SLEEP)
    time.sleep(seconds)
    return text_reply(f"Worker {os.getpid()} has slept for {seconds:g} s.\n")


def error(environ: WSGIEnvironment) -> Reply:
    raise RuntimeError("the demo's error: its traceback belongs in the log, not on the wire")


# -- reading an upload -------------------------------------------------------------------------


class Digest:
    """Size and checksum of bytes that pass by."""

    def __init__(self) -> None:
        self.size = 0
        self._hash = hashlib.sha256()

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def of_all(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        """The same blocks, each taken into account as it passes."""
        for block in blocks:
            self.size += len(block)
            self._hash.update(block)
            yield block


def request_body(environ: WSGIEnvironment) -> Iterator[bytes]:
    """The request's body in blocks; to its end where the server marks one
    (`wsgi.input_terminated`), else up to its Content-Length."""
    source = environ["wsgi.input"]
    left = None if environ.get("wsgi.input_terminated") else int(environ["CONTENT_LENGTH"] or 0)
    while left != 0:
        block = source.read(BLOCK if left is None else min(left, BLOCK))
        if not block:
            return
        if left is not None:
            left -= len(block)
        yield block


def form_parts(blocks: Iterator[bytes], boundary: bytes) -> Iterator[dict[str, object]]:
    """Name, file name, size and checksum of each part of a form (RFC 7578), read as it comes:
    no part is ever whole in memory.  400 if the form is broken off or has too many parts."""
    delimiter = b"\r\n--" + boundary
    reader = MarkReader(blocks)
    for _ in reader.until(delimiter):
        pass
    for _ in range(MAX_PARTS):
        if reader.starts_with(b"--"):
            return
        head = b""
        for piece in reader.until(b"\r\n\r\n"):
            head += piece
            if len(head) > MAX_PART_HEAD:
                raise Refused("400 Bad Request", "A part of the form has too long a head.")
        part = Digest()
        for _ in part.of_all(reader.until(delimiter)):
            pass
        names = dict(re.findall(r'\b(name|filename)="([^"]*)"', head.decode("utf-8", "replace")))
        yield {**names, "size": part.size, "sha256": part.sha256}
    if not reader.starts_with(b"--"):
        raise Refused("400 Bad Request", f"The form has more than {MAX_PARTS} parts.")


class MarkReader:
    """Reads blocks up to a mark that may lie across two of them."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._buffer = b"\r\n"  # so that the first delimiter begins like the others

    def _more(self) -> None:
        block = next(self._blocks, None)
        if block is None:
            raise Refused("400 Bad Request", "The form ends in the middle of a part.")
        self._buffer += block

    def until(self, mark: bytes) -> Iterator[bytes]:
        """The bytes before the mark; the mark itself is read, too."""
        tail = len(mark) - 1  # so much of the buffer's end may be the beginning of a mark
        while (at := self._buffer.find(mark)) < 0:
            yield self._buffer[:-tail]
            self._buffer = self._buffer[-tail:]
            self._more()
        yield self._buffer[:at]
        self._buffer = self._buffer[at + len(mark) :]

    def starts_with(self, mark: bytes) -> bool:
        while len(self._buffer) < len(mark):
            self._more()
        return self._buffer.startswith(mark)


# -- what the pages are made of ----------------------------------------------------------------

SOURCE = Path(__file__)
NOISE = random.Random(0).randbytes(BLOCK)  # a download that no compression makes smaller

CGI_VARIABLES = {
    "REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "CONTENT_TYPE",
    "CONTENT_LENGTH", "SERVER_NAME", "SERVER_PORT", "SERVER_PROTOCOL", "SERVER_SOFTWARE",
    "REMOTE_ADDR", "REMOTE_PORT", "GATEWAY_INTERFACE",
}  # fmt: skip

ROUTES = (
    Route("/", ("GET",), index, "Index", "This page.", "", ""),
    Route(
        "/hello", ("GET",), hello, "Hello",
        "The smallest answer: one read, one write, no more.",
        "", "-i",
    ),
    Route(
        "/environ", ("GET",), show_environ, "Environ",
        "What the application gets to know about a request, as JSON.",
        "?colour=green", "",
    ),
    Route(
        "/upload", ("GET", "POST", "PUT"), upload, "Upload",
        "Send a file, get back its size and its SHA-256.",
        "", "-T FILE",
    ),
    Route(
        "/download", ("GET",), download, "Download",
        f"A generator, streamed in chunks, {MAX_DOWNLOAD} MiB at most.",
        "?mb=64", "-o /dev/null",
    ),
    Route(
        "/file", ("GET",), source_file, "File",
        "The source of this demo, sent by the kernel (sendfile).",
        "", "-o demo.py",
    ),
    Route(
        "/slow", ("GET",), slow, "Slow",
        f"A handler that sleeps, {MAX_SLEEP:g} s at most. Other workers go on.",
        "?seconds=2", "",
    ),
    Route(
        "/error", ("GET",), error, "Error",
        "A handler that raises: you get a plain 500, the log the traceback.",
        "", "-i",
    ),
)  # fmt: skip

ICON = (
    "<svg viewBox='0 -2 48 48' fill='none' stroke='currentColor' stroke-width='3.6' "
    "stroke-linecap='round' aria-hidden='true'><g transform='rotate(24 24 24)'>"
    "<path d='M13 3v13c0 6.5 4.5 10 11 10s11-3.5 11-10V3M20.3 3v13M27.7 3v13'/>"
    "<path d='M24 27v18' stroke-width='5'/></g></svg>"
)

FAVICON = "data:image/svg+xml," + quote(
    ICON.replace("<svg ", "<svg xmlns='http://www.w3.org/2000/svg' ").replace(
        "currentColor", "#d9531e"
    )
)

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #faf8f5; --card: #ffffff; --ink: #211e1b; --soft: #6b635b; --line: #e8e2da;
  --accent: #c2410c; --tint: #fff1e8; --code: #f5f1ec; --good: #15803d; --bad: #b91c1c;
  --shadow: 0 1px 2px rgb(60 40 20 / 5%), 0 12px 32px -16px rgb(60 40 20 / 18%);
  --mono: ui-monospace, "SF Mono", "Cascadia Code", "JetBrains Mono", Menlo, Consolas,
    "DejaVu Sans Mono", monospace;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #131214; --card: #1b1a1d; --ink: #ece8e3; --soft: #a39b93; --line: #2d2a2e;
    --accent: #ff9a5c; --tint: #33231a; --code: #232125; --good: #4ade80; --bad: #f87171;
    --shadow: 0 1px 2px rgb(0 0 0 / 40%), 0 16px 40px -16px rgb(0 0 0 / 60%);
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: radial-gradient(70rem 26rem at 50% -10rem, var(--tint), transparent)
    no-repeat var(--paper);
  color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, Inter,
    "Helvetica Neue", Arial, sans-serif; -webkit-text-size-adjust: 100%;
}
.wrap { max-width: 72rem; margin: 0 auto; padding: 3rem 1.5rem 2rem; }
a { color: var(--accent); text-decoration: none; }
a:hover { text-decoration: underline; text-underline-offset: .2em; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 3px; border-radius: 6px; }
header { display: flex; align-items: center; gap: 1.1rem; }
header svg, .logo svg { width: 3.25rem; height: 3.25rem; flex: none; color: var(--accent); }
h1 { margin: 0; font-size: 2.1rem; line-height: 1.15; letter-spacing: -.025em; font-weight: 700; }
header p { margin: .15rem 0 0; color: var(--soft); }
.facts { display: grid; grid-template-columns: repeat(4, 1fr); margin: 2rem 0 1.25rem; }
.card {
  background: var(--card); border: 1px solid var(--line); border-radius: 14px;
  box-shadow: var(--shadow); overflow: hidden;
}
.facts div { padding: 1rem 1.4rem; border-left: 1px solid var(--line); }
.facts div:first-child { border-left: 0; }
dt { color: var(--soft); font-size: .75rem; letter-spacing: .07em; text-transform: uppercase; }
dd { margin: .1rem 0 0; font-size: 1.05rem; font-weight: 600; font-variant-numeric: tabular-nums;
  overflow-wrap: anywhere; }
.rows { list-style: none; margin: 0; padding: 0; }
.rows li {
  display: grid; grid-template-columns: minmax(0, 10fr) minmax(0, 11fr); gap: .6rem 1.5rem;
  align-items: center; padding: .9rem 1.4rem; border-top: 1px solid var(--line);
}
.rows li:first-child { border-top: 0; }
.name { display: flex; flex-wrap: wrap; align-items: baseline; gap: .25rem .7rem; }
.name a { font-size: 1.1rem; font-weight: 650; }
.name .path { color: var(--soft); font: .82rem var(--mono); }
.method {
  align-self: center; padding: .02rem .4rem; border-radius: 5px; background: var(--tint);
  color: var(--accent); font: 600 .66rem/1.5 var(--mono); letter-spacing: .03em;
}
.method + .method { margin-left: -.4rem; }
.rows p { margin: .15rem 0 0; color: var(--soft); font-size: .93rem; line-height: 1.45;
  text-wrap: pretty; }
.curl {
  display: flex; align-items: center; gap: .4rem; min-width: 0; padding: .2rem .25rem .2rem .9rem;
  border-radius: 9px; background: var(--code);
}
.curl code { flex: 1; min-width: 0; padding: .4rem 0; overflow-x: auto; white-space: nowrap;
  font: .8rem/1.5 var(--mono); scrollbar-width: none;
  mask-image: linear-gradient(to left, transparent, #000 1.2rem); }
.curl code::before { content: "$ "; color: var(--soft); opacity: .6; user-select: none; }
button {
  font: inherit; color: inherit; cursor: pointer; border: 1px solid transparent;
  border-radius: 7px; background: none;
}
.copy { flex: none; padding: .15rem .55rem; color: var(--soft); font-size: .78rem; }
.copy:hover { background: var(--card); border-color: var(--line); color: var(--ink); }
.copy[hidden] { display: none; }
footer { margin-top: 1.6rem; color: var(--soft); font-size: .87rem; text-align: center; }
footer code { font: .95em var(--mono); }
.narrow { max-width: 42rem; }
.crumb { display: inline-flex; align-items: center; gap: .6rem; font-weight: 600; }
.crumb svg { width: 1.6rem; height: 1.6rem; }
.narrow h1 { margin: 1.25rem 0 .4rem; }
.lead { margin: 0 0 1.5rem; color: var(--soft); }
.drop { position: relative; display: block; margin: 1.4rem 1.4rem 0; padding: 2.6rem 1rem;
  border: 2px dashed var(--line); border-radius: 11px; text-align: center; color: var(--soft); }
.drop:hover, .drop:focus-within { border-color: var(--accent); background: var(--tint); }
.drop input { position: absolute; inset: 0; width: 100%; height: 100%; opacity: 0;
  cursor: pointer; }
.drop strong { display: block; color: var(--ink); font-size: 1.05rem; overflow-wrap: anywhere; }
.send { display: flex; align-items: center; gap: 1rem; padding: 1.2rem 1.4rem 1.4rem; }
.send button { padding: .55rem 1.4rem; background: var(--accent); color: var(--card);
  font-weight: 650; }
.send button:hover { filter: brightness(1.08); }
progress { flex: 1; height: .5rem; min-width: 0; accent-color: var(--accent); }
.result { margin: 0; padding: 1.2rem 1.4rem 1.4rem; border-top: 1px solid var(--line);
  display: grid; gap: .9rem; }
.result dd { font: 500 .9rem var(--mono); }
.result .good { color: var(--good); } .result .bad { color: var(--bad); }
.code { margin: 3rem 0 0; color: var(--accent); font: 700 5rem/1 var(--mono);
  letter-spacing: -.05em; }
[hidden] { display: none; }
@media (max-width: 64rem) {
  .rows li { grid-template-columns: minmax(0, 1fr); padding: 1.05rem 1.4rem; }
}
@media (max-width: 52rem) {
  .rows li { padding: 1.05rem; }
  .wrap { padding: 2rem 1rem; }
  .facts { grid-template-columns: 1fr 1fr; }
  .facts div:nth-child(odd) { border-left: 0; }
  .facts div:nth-child(n + 3) { border-top: 1px solid var(--line); }
  .facts div { padding: .8rem 1.05rem; }
}
@media (max-width: 30rem) {
  header svg { width: 2.6rem; height: 2.6rem; }
  h1 { font-size: 1.75rem; }
  header p { font-size: .93rem; line-height: 1.4; }
}
"""

SCRIPT = """
for (const button of document.querySelectorAll(".copy")) {
  if (!navigator.clipboard) continue;
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(button.previousElementSibling.textContent);
    button.textContent = "copied";
    setTimeout(() => { button.textContent = "copy"; }, 1500);
  });
}
const form = document.querySelector("form");
if (form) {
  const input = form.querySelector("input"), name = form.querySelector("strong");
  const bar = form.querySelector("progress"), result = form.querySelector(".result");
  const show = (rows) => {
    result.replaceChildren(...rows.map(([term, text, kind]) => {
      const row = document.createElement("div");
      const dt = document.createElement("dt"), dd = document.createElement("dd");
      dt.textContent = term;
      dd.textContent = text;
      dd.className = kind || "";
      row.append(dt, dd);
      return row;
    }));
    result.hidden = false;
  };
  input.addEventListener("change", () => {
    if (input.files[0]) name.textContent = input.files[0].name;
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const file = input.files[0], request = new XMLHttpRequest(), start = performance.now();
    bar.hidden = false;
    bar.value = 0;
    request.open("PUT", form.action);
    request.responseType = "json";
    request.upload.addEventListener("progress", (sent) => {
      bar.value = sent.loaded / sent.total;
    });
    request.addEventListener("error", () => show([["Failed", "the connection broke", "bad"]]));
    request.addEventListener("load", async () => {
      const took = (performance.now() - start) / 1000, answer = request.response;
      if (request.status !== 200 || !answer) {
        show([["Failed", request.status + " " + request.statusText, "bad"]]);
        return;
      }
      const rows = [
        ["Received", answer.size.toLocaleString("en") + " bytes in " + took.toFixed(2)
          + " s by worker " + answer.worker],
        ["SHA-256", answer.sha256],
      ];
      if (window.isSecureContext && file.size < 5e8) {
        const digest = await crypto.subtle.digest("SHA-256", await file.arrayBuffer());
        const hex = Array.from(new Uint8Array(digest), (b) => b.toString(16).padStart(2, "0"));
        const same = hex.join("") === answer.sha256;
        rows.push(["Your file", same ? "has the same" : "differs", same ? "good" : "bad"]);
      }
      show(rows);
    });
    request.send(file);
  });
}
"""


def source_hash(text: str) -> str:
    """`text` as a source of a Content-Security-Policy (CSP level 3, 2.3.1)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


POLICY = (
    f"default-src 'none'; style-src {source_hash(STYLE)}; script-src {source_hash(SCRIPT)}; "
    "img-src data:; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)

PAGE = Template(
    """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<link rel="icon" href=\""""
    + FAVICON
    + """\">
<style>$style</style>
</head>
<body>
$main
<script>$script</script>
</body>
</html>
"""
)

INDEX = Template(
    """<div class="wrap">
<header>"""
    + ICON
    + """<div><h1>fastfork</h1>
<p>The server is up. Here is what it can do: one link and one curl line each.</p></div></header>
<main>
<dl class="facts card">$facts</dl>
<ul class="rows card">$rows</ul>
</main>
<footer>Every new connection may meet another worker. The source of this page is
<code>fastfork/demo.py</code>.</footer>
</div>"""
)

ROW = Template(
    """<li><div><div class="name"><a href="$href">$title</a>
<span class="path">$path$query</span>$methods</div><p>$about</p></div>
<div class="curl"><code>$curl</code><button class="copy" hidden>copy</button></div></li>
"""
)

UPLOAD = Template(
    """<div class="wrap narrow"><a class="crumb logo" href="$home">"""
    + ICON
    + """fastfork demo</a>
<h1>Upload</h1>
<p class="lead">The file is read as it comes, counted, hashed and forgotten.</p>
<form class="card" method="post" enctype="multipart/form-data">
<label class="drop"><strong>Choose a file or drop it here</strong>
up to 1 GiB, unless the server is told otherwise
<input type="file" name="file" required></label>
<div class="send"><button>Send</button><progress max="1" value="0" hidden></progress></div>
<dl class="result" aria-live="polite" hidden></dl>
</form>
</div>"""
)

REFUSAL = Template(
    """<div class="wrap narrow"><a class="crumb logo" href="$home">"""
    + ICON
    + """fastfork demo</a>
<p class="code">$code</p>
<h1>$reason</h1>
<p class="lead">$message</p>
<p><a href="$home">Back to the index</a></p>
</div>"""
)
