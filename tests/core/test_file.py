"""wsgi.file_wrapper without a socket (PEP 3333, Optional Platform-Specific File Handling)."""

import gzip
import io
import logging
import os
import tempfile

import pytest
from answers import request

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
