"""wsgi.file_wrapper over a socket: sendfile (PEP 3333, Optional Platform-Specific File
Handling)."""

import gzip
import os

import pytest
from tools import content, get, io_count, slow_client, vanish, wake, worker_of

SIZE = 2_000_000


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "content"
    path.write_bytes(content(SIZE))
    return path


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("length", [f"&length={SIZE}", ""])
def test_whole_file(server, path, length, version):
    with server.connect() as client:
        answer = client.request(get(f"/file?path={path}{length}", version=version))
        assert answer.body == content(SIZE)
        assert answer.complete
        if version == "1.1":
            assert client.get("/").body == b"hello"


def test_it_is_sent_by_the_kernel(server, path):
    """A worker that reads the file itself needs thousands of reads for it."""
    pid = worker_of(server)
    with server.connect() as client:
        before = io_count(pid, "syscr")
        for _ in range(4):
            assert client.get(f"/file?path={path}&length={SIZE}&block=512").body == content(SIZE)
        assert io_count(pid, "syscr") - before < 500


@pytest.mark.parametrize("where", ["read=1000", "seek=1000", "read=500&seek=1000"])
def test_from_where_the_file_stands(server, path, where):
    """A buffered file's position, not that of its descriptor."""
    with server.connect() as client:
        answer = client.get(f"/file?path={path}&{where}&length={SIZE - 1000}")
        assert answer.body == content(SIZE)[1000:]
        assert answer.complete
        assert client.get("/").body == b"hello"


def test_part_of_a_file(server, path):
    with server.connect() as client:
        answer = client.get(f"/file?path={path}&seek=777&length=333")
        assert answer.body == content(SIZE)[777:1110]
        assert client.get("/").body == b"hello"


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("query", ["", "&length=0"])
def test_empty_file(server, tmp_path, query, version):
    """Trap: file_wrapper on an empty file corrupting the chunking."""
    empty = tmp_path / "empty"
    empty.touch()
    with server.connect() as client:
        answer = client.request(get(f"/file?path={empty}{query}", version=version))
        assert (answer.status, answer.body, answer.complete) == (200, b"", True)
        if version == "1.1":
            assert client.get("/").body == b"hello"


@pytest.mark.parametrize("query", ["", f"&length={SIZE}"])
def test_head_of_a_file(server, path, query):
    with server.connect() as client:
        client.send(get(f"/file?path={path}{query}", method="HEAD") + get("/"))
        answer = client.read_response("HEAD")
        assert answer.status == 200
        assert answer.header("content-length", str(SIZE)) == str(SIZE)
        assert client.read_response().body == b"hello"


def test_pipelined_files(server, path):
    with server.connect() as client:
        client.send(get(f"/file?path={path}&length={SIZE}") * 3)
        for _ in range(3):
            assert client.read_response().body == content(SIZE)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_file_shorter_than_its_length(server, path, version):
    with server.connect() as client:
        answer = client.request(get(f"/file?path={path}&length={SIZE + 10}", version=version))
        assert answer.body == content(SIZE)
        assert not answer.complete
        assert client.at_eof()


def test_file_longer_than_its_length(server, path):
    with server.connect() as client:
        assert client.get(f"/file?path={path}&length=5").body == content(5)
        assert client.get("/").body == b"hello"


def test_file_that_shrinks_while_it_is_sent(server, tmp_path):
    path = tmp_path / "shrinking"
    path.write_bytes(b"")
    os.truncate(path, 60_000_000)
    client = slow_client(server)
    client.send(get(f"/file?path={path}&length=60000000"))
    client.read_head()
    os.truncate(path, 1000)
    assert len(client.read_all()) < 60_000_000
    client.close()
    assert server.get("/").body == b"hello"


def test_file_that_grows_while_it_is_sent(server, tmp_path):
    path = tmp_path / "growing"
    path.write_bytes(content(10_000_000))
    client = slow_client(server)
    client.send(get(f"/file?path={path}&length=10000000") + get("/"))
    client.read_head()
    with path.open("ab") as file:
        file.write(b"more" * 1000)
    wake(client)
    assert client.read_exactly(10_000_000) == content(10_000_000)
    assert client.read_response().body == b"hello"
    client.close()


def test_slow_reader_of_a_file_holds_up_nobody(server, tmp_path):
    path = tmp_path / "large"
    path.write_bytes(content(12_000_000))
    client = slow_client(server)
    client.send(get(f"/file?path={path}") + get("/"))
    for _ in range(5):
        assert server.get("/").body == b"hello"
    wake(client)
    assert client.read_response().body == content(12_000_000)
    assert client.read_response().body == b"hello"
    client.close()


@pytest.mark.parametrize("leave", ["reset", "close"])
def test_client_leaves_in_mid_file(server, tmp_path, leave):
    """The file is closed too (the fixture counts descriptors)."""
    path = tmp_path / "large"
    path.write_bytes(content(20_000_000))
    for _ in range(5):
        client = slow_client(server)
        client.send(get(f"/file?path={path}"))
        client.read_head()
        if leave == "reset":
            vanish(client)
        else:
            client.close()
    assert server.get("/").body == b"hello"


def test_object_without_a_descriptor(server):
    with server.connect() as client:
        assert client.get("/memory-file?n=300000").body == content(300_000)
        assert client.get("/memory-file?n=0").body == b""
        assert client.get("/").body == b"hello"


def test_compressed_file(server, tmp_path):
    """It has a descriptor, but of other bytes than those it reads."""
    path = tmp_path / "content.gz"
    path.write_bytes(gzip.compress(content(SIZE)))
    assert server.get(f"/gzip-file?path={path}").body == content(SIZE)


def test_many_files_leave_no_descriptor(server, path):
    with server.connect() as client:
        for _ in range(200):
            assert client.get(f"/file?path={path}&seek={SIZE - 10}&length=10").status == 200


@pytest.mark.parametrize("how", ["HEAD", "204 No Content", "304 Not Modified", "205 Reset Content"])
def test_file_of_which_nothing_is_sent(server, path, how):
    """It is closed all the same (the fixture counts descriptors)."""
    method = "HEAD" if how == "HEAD" else "GET"
    status = "" if how == "HEAD" else "&status=" + how.replace(" ", "+")
    with server.connect() as client:
        for _ in range(50):
            client.send(get(f"/file?path={path}{status}", method=method))
            assert client.read_response(method).body == b""
        assert client.get("/").body == b"hello"


@pytest.mark.parametrize("length", ["", "&length=30000000"])
@pytest.mark.parametrize("left", [0, 8192, 29_999_999])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_file_that_shrinks_while_its_client_pauses(server, tmp_path, left, length, version):
    """The client can tell that it has not got everything, and what was pipelined behind is not
    executed.  (What had been sent but not taken is the file's own memory: the kernel may blank
    what lies beyond its new end.)"""
    path = tmp_path / "shrinking"
    path.write_bytes(content(30_000_000))
    told = server.stderr.count("shorter while it was being sent")
    client = slow_client(server)
    client.send(get(f"/file?path={path}{length}", version=version) + get("/"))
    _, status, _, headers = client.read_head()
    assert status == 200
    assert ("Content-Length", "30000000") in headers
    os.truncate(path, left)
    wake(client)
    body = client.read_all()
    assert len(body) < 30_000_000
    assert body[:left] == content(left)[:len(body)]
    assert b"HTTP/1.1" not in body
    assert server.stderr.count("shorter while it was being sent") == told + 1
    client.close()


@pytest.mark.parametrize("length", ["", "&length=10000000"])
@pytest.mark.parametrize("how", ["appended", "written over", "replaced", "removed"])
def test_file_that_changes_while_its_client_pauses(server, tmp_path, how, length):
    """As many bytes as were promised, and the next answer stands where it should."""
    path = tmp_path / "changing"
    path.write_bytes(content(10_000_000))
    client = slow_client(server)
    client.send(get(f"/file?path={path}{length}") + get("/"))
    client.read_head()
    if how == "appended":
        with path.open("ab") as file:
            file.write(b"more" * 1_000_000)
    elif how == "written over":
        with path.open("r+b") as file:
            file.write(content(10_000_000))
    elif how == "replaced":
        other = tmp_path / "other"
        other.write_bytes(b"short")
        other.rename(path)
    else:
        path.unlink()
    wake(client)
    assert client.read_exactly(10_000_000) == content(10_000_000)
    assert client.read_response().body == b"hello"
    client.close()


def test_part_of_a_large_file_to_a_client_that_pauses(server, tmp_path):
    """A range by seek and Content-Length, sent in many steps."""
    path = tmp_path / "large"
    path.write_bytes(content(30_000_000))
    client = slow_client(server)
    client.send(get(f"/file?path={path}&seek=12345&length=20000000"
                    "&status=206+Partial+Content") + get("/"))
    _, status, _, headers = client.read_head()
    assert (status, ("Content-Length", "20000000") in headers) == (206, True)
    assert server.get("/").body == b"hello"
    wake(client)
    assert client.read_exactly(20_000_000) == content(20_012_345)[12_345:]
    assert client.read_response().body == b"hello"
    client.close()


@pytest.mark.parametrize("seek", [2 ** 31 - 1, 2 ** 32 + 1, 5 * 2 ** 30])
def test_position_beyond_four_gigabytes(server, tmp_path, seek):
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.seek(seek)
        file.write(b"far away")
    with server.connect() as client:
        answer = client.get(f"/file?path={path}&seek={seek}")
        assert (answer.body, answer.header("content-length")) == (b"far away", "8")
        assert client.get("/").body == b"hello"


@pytest.mark.parametrize("name", ["status", "maps"])
def test_file_that_does_not_tell_its_size(server, name):
    """Those of /proc are 0 bytes long."""
    with server.connect() as client:
        answer = client.get(f"/file?path=/proc/self/{name}")
        assert answer.complete
        assert answer.body
        assert client.get("/").body == b"hello"


def test_fifo(server, tmp_path):
    """Read as it comes; its end is the end of the body."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with server.connect() as client:
        client.send(get(f"/file?path={fifo}&block=4"))
        with fifo.open("wb", buffering=0) as steps:
            steps.write(b"one ")
            client.read_head()
            assert client.read_exactly(9) == b"4\r\none \r\n"
            steps.write(b"two")
        assert client.read_exactly(13) == b"3\r\ntwo\r\n0\r\n\r\n"
        assert client.get("/").body == b"hello"


@pytest.mark.parametrize("path", ["/", "/proc/self", "/nowhere"])
def test_what_cannot_be_opened(server, path):
    assert server.get(f"/file?path={path}").status == 500


def test_devices(server):
    with server.connect() as client:
        assert client.get("/file?path=/dev/null").body == b""
        assert client.get("/file?path=/dev/zero&length=3000000").body == bytes(3_000_000)
        assert client.get("/").body == b"hello"
