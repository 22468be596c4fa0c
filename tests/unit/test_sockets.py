import os
import socket

import pytest

from fastfork import sockets
from fastfork.sockets import AddressError, Inherited, Tcp, Unix, bind, parse


@pytest.fixture
def listen():
    """`listen(address)` binds; everything is closed and removed with the test."""
    listeners = []

    def start(text, backlog=16):
        listener = bind(parse(text), backlog)
        listeners.append(listener)
        return listener

    yield start
    for listener in listeners:
        listener.remove()
        listener.close()


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8000", Tcp("127.0.0.1", 8000)),
        ("localhost:0", Tcp("localhost", 0)),
        (":8000", Tcp("0.0.0.0", 8000)),
        ("8000", Tcp("127.0.0.1", 8000)),
        ("[::1]:80", Tcp("::1", 80)),
        ("[fe80::1%eth0]:65535", Tcp("fe80::1%eth0", 65535)),
        ("unix:/run/x.sock", Unix("/run/x.sock")),
        ("unix:@name", Unix("@name")),
        ("fd://3", Inherited(3)),
    ],
)
def test_parse(text, address):
    assert parse(text) == address
    assert parse(str(address)) == address


def test_a_relative_path_counts_from_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parse("unix:x.sock") == Unix(str(tmp_path / "x.sock"))


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("localhost", "write localhost:8000"),
        ("localhost:", "is not an address"),
        ("localhost:http", "'http' is not a port number"),
        ("localhost:65536", "0 to 65535"),
        ("localhost:-1", "'-1' is not a port number"),
        ("70000", "0 to 65535"),
        ("::1:8000", "in brackets"),
        ("[::1]", "write host:port"),
        ("[::1", "write host:port"),
        ("[]:80", "write host:port"),
        ("http://localhost:80", "without a scheme"),
        ("/run/x.sock", "unix:/path"),
        ("unix:", "the path is missing"),
        ("unix:@", "the path is missing"),
        ("fd://x", "write fd://N"),
        ("fd:3", "write fd://N"),
        ("", "write host:port"),
        ("a:1\n", "is not a port number"),
    ],
)
def test_malformed(text, right):
    with pytest.raises(AddressError) as caught:
        parse(text)
    sentence = str(caught.value)
    assert right in sentence
    assert sentence.startswith("--bind ") and sentence.endswith(".") and "\n" not in sentence


def test_tcp_socket_is_set_up(listen):
    listener = listen("127.0.0.1:0")
    sock = listener.socket
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
    assert not sock.get_inheritable()
    assert not os.get_blocking(sock.fileno())
    port = sock.getsockname()[1]
    assert port != 0 and listener.url == f"http://127.0.0.1:{port}"
    with socket.create_connection(("127.0.0.1", port)):
        accepted, _ = sock.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_v6_and_v4_share_a_port(listen):
    first = listen("[::]:0")
    port = first.socket.getsockname()[1]
    assert first.url == f"http://[::]:{port}"
    assert listen(f"0.0.0.0:{port}").url == f"http://0.0.0.0:{port}"


def test_a_name_is_bound_at_its_ipv4_address(listen):
    assert listen("localhost:0").socket.family == socket.AF_INET


def sentence_of(text):
    with pytest.raises(AddressError) as caught:
        bind(parse(text), 16)
    sentence = str(caught.value)
    assert sentence.startswith("Cannot listen on ") and sentence.endswith(".")
    return sentence


def test_port_taken(listen):
    port = listen("127.0.0.1:0").socket.getsockname()[1]
    assert f"127.0.0.1:{port}: the port is taken" in sentence_of(f"127.0.0.1:{port}")


def test_not_our_address():
    assert "not an address of this machine" in sentence_of("192.0.2.1:0")


def test_unknown_host():
    # a label of more than 63 bytes can be no host, whatever resolver there is
    assert "no host of that name" in sentence_of("x" * 64 + ".example:80")


def test_resolver_knows_no_such_host(monkeypatch):
    def fail(*args, **kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    assert "the host 'nowhere' is unknown (Name or service" in sentence_of("nowhere:80")


def test_no_permission_for_a_port(monkeypatch):
    class Refused(socket.socket):
        def bind(self, address):
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket, "socket", Refused)
    assert "no permission to use port 80" in sentence_of("127.0.0.1:80")


def test_no_permission_for_a_path(tmp_path):
    tmp_path.chmod(0o500)
    user = os.geteuid()
    if user == 0:  # root may write anywhere
        os.seteuid(65534)
    try:
        sentence = sentence_of(f"unix:{tmp_path}/s")
    finally:
        os.seteuid(user)
        tmp_path.chmod(0o700)
    assert sentence.endswith("/s: no permission.")


def test_unix_socket_and_its_removal(listen, tmp_path):
    path = tmp_path / "s"
    listener = listen(f"unix:{path}")
    assert listener.url == f"unix:{path}"
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    listener.remove()
    assert not path.exists()
    listener.remove()


def test_a_socket_that_is_no_longer_ours_is_not_removed(listen, tmp_path):
    path = tmp_path / "s"
    listener = listen(f"unix:{path}")
    path.unlink()
    other = listen(f"unix:{path}")
    listener.remove()
    assert path.exists()
    other.remove()
    assert not path.exists()


def test_a_live_unix_socket_is_refused(listen, tmp_path):
    path = tmp_path / "s"
    listen(f"unix:{path}")
    assert "another process listens there" in sentence_of(f"unix:{path}")
    assert path.exists()


def test_a_live_unix_socket_whose_backlog_is_full_is_refused_too(listen, tmp_path):
    path = tmp_path / "s"
    listen(f"unix:{path}", backlog=0)
    with socket.socket(socket.AF_UNIX) as waiting:
        waiting.connect(str(path))
        assert "another process listens there" in sentence_of(f"unix:{path}")


def test_a_stale_unix_socket_is_replaced(listen, tmp_path):
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
        stale.listen()
    assert path.is_socket()
    listen(f"unix:{path}")


def test_another_file_is_never_removed(tmp_path):
    path = tmp_path / "s"
    path.write_text("precious")
    assert "no socket" in sentence_of(f"unix:{path}")
    assert path.read_text() == "precious"


def test_a_datagram_socket_is_not_removed(tmp_path):
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        sentence_of(f"unix:{path}")
        assert path.is_socket()


def test_unix_path_too_long(tmp_path):
    assert "longer than 107 bytes" in sentence_of(f"unix:{tmp_path}/{'x' * 120}")
    assert "longer than 107 bytes" in sentence_of(f"unix:@{'x' * 120}")


def test_no_such_directory(tmp_path):
    assert "no such directory" in sentence_of(f"unix:{tmp_path}/absent/s")


def test_abstract_socket(listen):
    name = f"@fastfork-test-{os.getpid()}"
    listener = listen(f"unix:{name}")
    assert listener.url == f"unix:{name}"
    assert "another process listens there" in sentence_of(f"unix:{name}")
    listener.remove()  # there is no file


def test_inherited(listen, tmp_path):
    path = tmp_path / "s"
    first = listen(f"unix:{path}")
    fd = os.dup(first.socket.fileno())
    os.set_inheritable(fd, True)
    os.set_blocking(fd, True)
    second = listen(f"fd://{fd}")
    assert second.socket.fileno() == fd
    assert second.url == f"unix:{path}"
    assert not os.get_inheritable(fd) and not os.get_blocking(fd)
    second.remove()
    assert path.exists()  # whoever made it removes it


def test_inherited_that_is_no_listener(tmp_path):
    with socket.socket() as sock:
        fd = sock.fileno()
        assert "not a listening" in sentence_of(f"fd://{fd}")
        assert os.fstat(fd)  # it is left open
    assert "is not open" in sentence_of(f"fd://{fd}")
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        assert "not a listening" in sentence_of(f"fd://{sock.fileno()}")
    with open(tmp_path / "file", "w") as file:
        assert "not a socket" in sentence_of(f"fd://{file.fileno()}")


@pytest.mark.parametrize(
    ("somaxconn", "limit"), [("128\n", 128), ("2048\n", None), ("4096\n", None), ("?", None)]
)
def test_cut_backlog(tmp_path, somaxconn, limit):
    file = tmp_path / "somaxconn"
    file.write_text(somaxconn)
    assert sockets.cut_backlog(2048, file) == limit
    assert sockets.cut_backlog(2048, tmp_path / "absent") is None
