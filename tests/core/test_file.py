"""wsgi.file_wrapper without a socket (PEP 3333, Optional Platform-Specific File Handling)."""

import gzip
import io
import logging
import os
import tempfile

import pytest
from answers import answers, request

from fastfork import _core

CONTENT = bytes(range(256)) * 1000


class Watched(io.BytesIO):
    closed_times = 0

    def close(self):
        self.closed_times += 1
        super().close()


def sending(open_file, *block, headers=(), status="200 OK"):
    def app(environ, start_response):
        start_response(status, list(headers))
        return environ["wsgi.file_wrapper"](open_file(), *block)
    return app


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "content"
    path.write_bytes(CONTENT)
    return path


def test_it_is_the_file_wrapper(recorded, recorder):
    recorded.one(request())
    assert recorder.environ["wsgi.file_wrapper"] is _core.FileWrapper


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_whole_file(wire, path, version):
    connection = wire(sending(lambda: path.open("rb")))
    answer = connection.one(request(version=version))
    assert answer.body == CONTENT
    assert answer.complete


def test_from_where_the_file_stands(wire, path):
    """PEP 3333: transmission begins at the current position of the file."""
    def open_file():
        file = path.open("rb")
        file.read(1000)  # the buffered file's position, not its descriptor's
        return file

    assert wire(sending(open_file)).one(request()).body == CONTENT[1000:]


def test_at_the_end_of_the_file(wire, path):
    def open_file():
        file = path.open("rb")
        file.seek(0, os.SEEK_END)
        return file

    connection = wire(sending(open_file))
    assert connection.one(request()).body == b""
    assert connection.usable


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("headers", [[], [("Content-Length", "0")]])
def test_empty_file(wire, tmp_path, headers, version):
    """Trap: file_wrapper on an empty file corrupting the chunking."""
    empty = tmp_path / "empty"
    empty.touch()
    connection = wire(sending(lambda: empty.open("rb"), headers=headers))
    answer = connection.one(request("GET", "/", "Connection: keep-alive", version=version))
    assert answer.body == b""
    assert answer.complete
    if not connection.closed:
        assert connection.one(request("GET", "/", "Connection: close")).body == b""


def test_no_more_than_the_length(wire, path):
    connection = wire(sending(lambda: path.open("rb"), headers=[("Content-Length", "10")]))
    assert connection.feed(request()).endswith(b"\r\n\r\n" + CONTENT[:10])


def test_range_is_left_to_the_application(wire, path):
    def open_file():
        file = path.open("rb")
        file.seek(300)
        return file

    headers = [("Content-Length", "20"), ("Content-Range", "bytes 300-319/256000")]
    connection = wire(sending(open_file, headers=headers, status="206 Partial Content"))
    assert connection.one(request()).body == CONTENT[300:320]
    assert connection.usable


def test_file_shorter_than_its_length(wire, path):
    headers = [("Content-Length", str(len(CONTENT) + 1))]
    connection = wire(sending(lambda: path.open("rb"), headers=headers))
    assert connection.feed(request() * 2).count(b"HTTP/1.1 ") == 1
    assert connection.closed
    assert connection.log


def test_head_of_a_file(wire, path):
    connection = wire(sending(lambda: path.open("rb"),
                              headers=[("Content-Length", str(len(CONTENT)))]))
    raw = connection.feed(request("HEAD"))
    assert raw.endswith(b"\r\n\r\n")
    assert b"\r\nContent-Length: 256000\r\n" in raw
    assert not connection.closed


def test_object_without_a_descriptor(wire):
    file = Watched(CONTENT)
    assert wire(sending(lambda: file)).one(request()).body == CONTENT
    assert file.closed_times == 1


def test_object_without_a_descriptor_from_an_offset(wire):
    file = io.BytesIO(CONTENT)
    file.seek(5)
    assert wire(sending(lambda: file, 100)).one(request()).body == CONTENT[5:]


def test_object_with_read_alone(wire):
    class Reader:
        sizes = ()

        def __init__(self):
            self.left = [b"a", b"b" * 10, b"c"]

        def read(self, size):
            self.sizes += (size,)
            return self.left.pop(0) if self.left else b""

    reader = Reader()
    assert wire(sending(lambda: reader, 17)).one(request()).body == b"a" + b"b" * 10 + b"c"
    assert set(reader.sizes) == {17}


def test_compressed_file_is_not_its_descriptor(wire, tmp_path):
    """A GzipFile has a fileno(), but what stands behind it is not what read() gives."""
    path = tmp_path / "content.gz"
    path.write_bytes(gzip.compress(CONTENT))
    file = gzip.GzipFile(path)
    assert wire(sending(lambda: file)).one(request()).body == CONTENT


class Shouting(io.FileIO):
    def read(self, size=-1):
        return super().read(size).upper()


class ShoutingInto(io.FileIO):
    def readinto(self, buffer):
        done = super().readinto(buffer)
        buffer[:done] = bytes(buffer[:done]).upper()
        return done


class ShoutingBuffered(io.BufferedReader):
    def read(self, size=-1):
        return super().read(size).upper()


class ShoutingAround:
    """Not a file, but it has one."""

    def __init__(self, file):
        self.file = file

    def read(self, size=-1):
        return self.file.read(size).upper()

    def fileno(self):
        return self.file.fileno()

    def close(self):
        self.file.close()


@pytest.mark.parametrize("make", [
    Shouting, lambda path: ShoutingBuffered(io.FileIO(path)),
    lambda path: io.BufferedReader(ShoutingInto(path)),
    lambda path: ShoutingAround(path.open("rb"))], ids=["raw", "buffered", "under", "around"])
def test_what_counts_is_read_and_not_the_descriptor(wire, tmp_path, make):
    """An object may read otherwise than the file it stands on: decrypt, cut, translate."""
    path = tmp_path / "text"
    path.write_bytes(b"quiet words")
    connection = wire(sending(lambda: make(path)))
    assert connection.one(request()).body == b"QUIET WORDS"


@pytest.mark.parametrize("make", [tempfile.TemporaryFile, tempfile.NamedTemporaryFile,
                                  tempfile.SpooledTemporaryFile])
def test_temporary_files(wire, make):
    def open_file():
        file = make()
        file.write(CONTENT)
        file.seek(100)
        return file

    connection = wire(sending(open_file))
    assert connection.one(request()).body == CONTENT[100:]
    assert connection.usable


def test_pipe(wire):
    """A descriptor without a position or a size."""
    def open_file():
        reading, writing = os.pipe()
        os.write(writing, b"through a pipe")
        os.close(writing)
        return os.fdopen(reading, "rb")

    assert wire(sending(open_file)).one(request()).body == b"through a pipe"


@pytest.mark.parametrize("opened", [
    lambda p: p.open("rb"), lambda p: p.open("rb", buffering=0), lambda p: p.open("r+b"),
    lambda p: os.fdopen(os.open(p, os.O_RDONLY), "rb")])
def test_file_is_closed_once(wire, path, opened):
    files = []

    def open_file():
        files.append(opened(path))
        return files[-1]

    connection = wire(sending(open_file))
    assert connection.one(request()).body == CONTENT
    assert files[0].closed
    assert connection.usable
    assert files[1].closed


def test_closed_file(wire, path):
    def open_file():
        file = path.open("rb")
        file.close()
        return file

    connection = wire(sending(open_file))
    assert connection.one(request()).status == 500
    assert connection.logged(logging.ERROR)


def test_wrapper_inside_a_generator(wire, path):
    """A middleware that iterates over it gets the file's content."""
    def app(environ, start_response):
        start_response("200 OK", [])
        wrapper = environ["wsgi.file_wrapper"](path.open("rb"), 1000)
        for chunk in wrapper:
            assert len(chunk) <= 1000
            yield chunk
        wrapper.close()

    assert wire(app).one(request()).body == CONTENT


def test_write_before_the_wrapper(wire, path):
    def app(environ, start_response):
        start_response("200 OK", [])(b"before ")
        return environ["wsgi.file_wrapper"](path.open("rb"))

    answer = wire(app).one(request())
    assert answer.body == b"before " + CONTENT
    assert answer.complete


# -- every kind of file in every kind of answer -----------------------------------------------

class Wrapped:
    """As those of tempfile and Django: a file, and what wraps it; closed how often?"""

    def __init__(self, file):
        self.file = file
        self.closed_times = 0

    def read(self, size=-1):
        return self.file.read(size)

    def close(self):
        self.closed_times += 1
        self.file.close()

    def __getattr__(self, name):
        return getattr(self.file, name)


class Delegated(Wrapped):
    """Its read() *is* that of its file, so it may go by the descriptor."""

    def __init__(self, file):
        super().__init__(file)
        self.read = file.read


class Reading(Watched):
    def fileno(self):
        raise io.UnsupportedOperation("fileno")


class Liar(Watched):
    """Says that it has a descriptor; it is one of another file."""

    def fileno(self):
        return 0


class NoClose:
    closed_times = 1        # nothing to call

    def __init__(self, content):
        self.read = io.BytesIO(content).read


FILELIKE = {
    "a wrapped file": lambda path: Wrapped(path.open("rb")),
    "a delegating one": lambda path: Delegated(path.open("rb")),
    "in memory": lambda path: Watched(path.read_bytes()),
    "without fileno": lambda path: Reading(path.read_bytes()),
    "with a false fileno": lambda path: Liar(path.read_bytes()),
    "without close": lambda path: NoClose(path.read_bytes()),
}
WHOLE = len(CONTENT)
# what is asked and answered → what of the file is sent, is the connection kept?
USES = {
    "GET": ("GET", "200 OK", None, WHOLE, True),
    "its length": ("GET", "200 OK", WHOLE, WHOLE, True),
    "less": ("GET", "200 OK", 10, 10, True),
    "less than a block": ("GET", "200 OK", 8191, 8191, True),
    "a block and one": ("GET", "200 OK", 8193, 8193, True),
    "nothing of it": ("GET", "200 OK", 0, 0, True),
    "more": ("GET", "200 OK", WHOLE + 1, WHOLE, False),
    "much more": ("GET", "200 OK", 10 * WHOLE, WHOLE, False),
    "HEAD": ("HEAD", "200 OK", None, 0, True),
    "HEAD of its length": ("HEAD", "200 OK", WHOLE, 0, True),
    "HEAD of less": ("HEAD", "200 OK", 10, 0, True),
    "HEAD of more": ("HEAD", "200 OK", WHOLE + 1, 0, True),
    "204": ("GET", "204 No Content", None, 0, True),
    "205": ("GET", "205 Reset Content", None, 0, True),
    "304": ("GET", "304 Not Modified", None, 0, True),
    "304 of its length": ("GET", "304 Not Modified", WHOLE, 0, True),
    "HEAD and 304": ("HEAD", "304 Not Modified", WHOLE, 0, True),
    "404": ("GET", "404 Not Found", None, WHOLE, True),
    "206": ("GET", "206 Partial Content", 77, 77, True),
}


@pytest.mark.parametrize("make", FILELIKE.values(), ids=FILELIKE)
@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_what_is_sent_and_closed_once(wire, path, make, use, version):
    method, status, length, sent, kept = use
    files = []

    def app(environ, start_response):
        if environ["PATH_INFO"] == "/usable":
            start_response("200 OK", [])
            return [b"usable"]
        files.append(make(path))
        start_response(status, [] if length is None else [("Content-Length", str(length))])
        return environ["wsgi.file_wrapper"](files[-1])

    connection = wire(app)
    raw = connection.feed(request(method, "/", "Connection: keep-alive", version=version)
                          + request("GET", "/usable"))
    first, *rest = answers(raw, method)
    assert first.status == int(status[:3])
    assert first.body == CONTENT[:sent]
    assert [f.closed_times for f in files] == [1]
    if method == "HEAD" or status[:3] in ("204", "205", "304"):
        assert first.all("transfer-encoding") == []
    if version == "1.0" and method == "GET" and sent == WHOLE and length is None:
        kept = bool(first.all("content-length"))        # else its end is the connection's
    assert connection.closed is not kept
    assert [a.body for a in rest] == ([b"usable"] if kept else [])
    assert kept or length is None or connection.logged(logging.ERROR)


@pytest.mark.parametrize("make", FILELIKE.values(), ids=FILELIKE)
@pytest.mark.parametrize("length", [0, 1, 10_000])
def test_a_range_of_an_object_is_no_error(wire, path, make, length):
    """PEP 3333: until the end of the file, or until Content-Length bytes have been sent.  That the
    file is longer is what a range is about."""
    connection = wire(sending(lambda: make(path), headers=[("Content-Length", str(length))],
                              status="206 Partial Content"))
    assert connection.one(request()).body == CONTENT[:length]
    assert not connection.logged(logging.WARNING)


@pytest.mark.parametrize("position", [0, 1, 8192, 100_000, WHOLE - 1, WHOLE, WHOLE + 1, 10 ** 12])
@pytest.mark.parametrize("length", [None, 0, 1, 1000])
@pytest.mark.parametrize("buffering", [-1, 0, 17])
def test_ranges_by_seek_and_length(wire, path, position, length, buffering):
    """PEP 3333: from the file's position; how much of it is Content-Length's to say."""
    def open_file():
        file = path.open("rb", buffering=buffering)
        file.seek(position)
        return file

    headers = [] if length is None else [("Content-Length", str(length))]
    connection = wire(sending(open_file, headers=headers, status="206 Partial Content"))
    (answer,) = answers(connection.feed(request()))
    left = CONTENT[position:]
    assert answer.body == (left if length is None else left[:length])
    assert answer.complete is (length is None or len(left) >= length)
    assert connection.closed is not answer.complete


def test_a_position_beyond_four_gigabytes(wire, tmp_path):
    path = tmp_path / "sparse"
    far = 5 * 1024 ** 3
    with path.open("wb") as file:
        file.seek(far)
        file.write(b"far away")

    def open_file():
        file = path.open("rb")
        file.seek(far)
        return file

    assert wire(sending(open_file)).one(request()).body == b"far away"


def test_what_was_read_by_iteration_is_not_sent_again(wire, path):
    def app(environ, start_response):
        start_response("200 OK", [])
        wrapper = environ["wsgi.file_wrapper"](path.open("rb"), 1000)
        next(wrapper)
        return wrapper

    assert wire(app).one(request()).body == CONTENT[1000:]


def test_what_was_written_is_sent(wire, path):
    """A file that is open for both, with what it has not flushed yet."""
    def open_file():
        file = path.open("r+b")
        file.write(b"new words")
        file.seek(4)
        return file

    answer = wire(sending(open_file)).one(request())
    assert answer.body == b"words" + CONTENT[9:]


@pytest.mark.parametrize("name", ["status", "cmdline", "maps"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_files_that_do_not_tell_their_size(wire, name, method):
    """Those of /proc are 0 bytes long, and yet there is something in them."""
    connection = wire(sending(lambda: open(f"/proc/self/{name}", "rb")))  # noqa: SIM115
    answer = connection.one(request(method), method)
    assert bool(answer.body) is (method == "GET")
    assert answer.complete
    assert answer.header("content-length") != "0"
    assert connection.usable


def test_fifo(wire, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    both = os.open(fifo, os.O_RDWR)
    os.write(both, b"through a fifo")
    reading = fifo.open("rb")
    os.close(both)
    connection = wire(sending(lambda: reading))
    assert connection.one(request()).body == b"through a fifo"
    assert reading.closed


def test_device(wire):
    """A descriptor without an end: Content-Length says how much."""
    connection = wire(sending(lambda: open("/dev/zero", "rb"),  # noqa: SIM115
                              headers=[("Content-Length", "100000")]))
    assert connection.one(request()).body == bytes(100_000)
    assert wire(sending(lambda: open("/dev/null", "rb"))).one(request()).body == b""  # noqa: SIM115


class Failing(Watched):
    """read() raises at the `at`-th call."""

    def __init__(self, at):
        super().__init__(b"x" * 100)
        self.left = at

    def read(self, size=-1):
        self.left -= 1
        if self.left == 0:
            raise OSError("from read()")
        return super().read(size)


@pytest.mark.parametrize("at", [1, 2])
@pytest.mark.parametrize("headers", [[], [("Content-Length", "100")]])
def test_read_that_fails(wire, at, headers):
    file = Failing(at)
    connection = wire(sending(lambda: file, 10, headers=headers))
    raw = connection.feed(request() + request("GET", "/never"))
    if at == 1:
        assert raw.startswith(b"HTTP/1.1 500 ")
    else:
        assert raw.startswith(b"HTTP/1.1 200 ")
        assert connection.closed
    assert not answers(raw)[0].complete or at == 1
    assert connection.logged(logging.ERROR)
    assert file.closed_times >= 1


def test_directory(wire, tmp_path):
    """It can be opened, but not read; the answer is an error and the descriptor is closed."""
    class Directory:
        def __init__(self):
            self.fd = os.open(tmp_path, os.O_RDONLY)

        def fileno(self):
            return self.fd

        def read(self, size):
            return os.read(self.fd, size)

        def close(self):
            os.close(self.fd)
            self.fd = -1

    directory = Directory()
    connection = wire(sending(lambda: directory))
    assert connection.one(request()).status == 500
    assert directory.fd == -1


@pytest.mark.parametrize("make", [
    lambda path: path.open(), lambda path: path.open("ab"), lambda path: path.open("wb"),
    lambda path: io.StringIO("text"), lambda path: object(), lambda path: None, lambda path: path],
    ids=["text", "append", "write", "StringIO", "object", "None", "path"])
def test_what_cannot_be_read_as_bytes(wire, tmp_path, make):
    path = tmp_path / "text"
    path.write_text("text")
    made = make(path)
    connection = wire(sending(lambda: made))
    answer = connection.one(request())
    assert answer.status == 500
    assert connection.logged(logging.ERROR)
    assert getattr(made, "closed", True)


@pytest.mark.parametrize("data", ["text", None, 5, bytearray(b"x")])
def test_read_that_gives_no_bytes(wire, data):
    class Odd(Watched):
        def read(self, size=-1):
            return data

    file = Odd(b"")
    connection = wire(sending(lambda: file))
    if data is None:
        assert connection.one(request()).body == b""        # as a file at its end
    else:
        assert connection.one(request()).status == 500
    assert file.closed_times == 1


@pytest.mark.parametrize("error", [ValueError, SystemExit])
def test_close_that_raises(wire, path, error):
    class Odd(Delegated):
        def close(self):
            super().close()
            raise error("from close")

    file = Odd(path.open("rb"))
    connection = wire(sending(lambda: file))
    answer = connection.one(request())
    assert (answer.status, answer.body, answer.complete) == (200, CONTENT, True)
    assert file.closed_times == 1
    assert connection.logged(logging.ERROR)


def test_start_response_was_not_called(wire, path):
    file = Delegated(path.open("rb"))
    connection = wire(lambda environ, start_response: environ["wsgi.file_wrapper"](file))
    assert connection.one(request()).status == 500
    assert file.closed_times == 1


def test_the_same_file_twice(wire, path):
    """It is closed after the first time."""
    file = path.open("rb")
    connection = wire(sending(lambda: file))
    assert connection.one(request()).body == CONTENT
    assert connection.one(request()).status == 500


def test_a_subclass_of_the_wrapper_is_asked(wire, path):
    class Loud(_core.FileWrapper):
        def __next__(self):
            return super().__next__().hex().encode()

    def app(environ, start_response):
        start_response("200 OK", [])
        return Loud(path.open("rb"), 1000)

    assert wire(app).one(request()).body == CONTENT.hex().encode()


def test_unlinked_and_replaced(wire, path):
    """What was opened is sent, whatever its name means by now."""
    def open_file():
        file = path.open("rb")
        path.unlink()
        path.write_bytes(b"another")
        return file

    assert wire(sending(open_file)).one(request()).body == CONTENT


@pytest.mark.parametrize("block", [1, 7, 100_000_000])
def test_block_sizes(wire, block):
    """A suggestion (PEP 3333), and only for what is iterated."""
    content = CONTENT[:5000]
    assert wire(sending(lambda: io.BytesIO(content), block)).one(request()).body == content


def test_close_without_close_and_attributes():
    class Reader:
        def read(self, size):
            return b""

    reader = Reader()
    wrapper = _core.FileWrapper(reader, 5)
    assert wrapper.filelike is reader
    assert wrapper.block_size == 5
    assert list(wrapper) == []
    wrapper.close()
    assert _core.FileWrapper(reader).block_size == 8192
