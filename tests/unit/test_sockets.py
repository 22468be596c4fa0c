import contextlib
import fcntl
import json
import os
import pwd
import socket
import stat
import subprocess
import sys

import pytest
from forked import in_child

from fastfork import identity, log, sockets
from fastfork.sockets import AddressError, Inherited, Passed, Systemd, Tcp, Unix, bind, parse


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
        ("systemd:web", Systemd("web")),
        ("systemd:fastfork.socket", Systemd("fastfork.socket")),
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
        ("systemd:", "the name of the sockets is missing"),
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
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


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


# -- permissions of unix sockets ---------------------------------------------------------
NOBODY = pwd.getpwnam("nobody")
DAEMON = pwd.getpwnam("daemon")
root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def umask():
    """`umask(mask)` sets it for the test."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


@pytest.fixture
def listen_as(tmp_path):
    """`listen_as(mode, owner)` binds a unix socket; its status."""
    listeners = []

    def start(mode=None, owner=None):
        path = tmp_path / "dressed"
        wanted = owner and identity.owner(owner)
        listeners.append(bind(Unix(str(path)), 16, mode=mode, owner=wanted))
        return path.stat()

    yield start
    for listener in listeners:
        listener.remove()
        listener.close()


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666, 0o777, 0o000, 0o060])
@pytest.mark.parametrize("mask", [0o000, 0o022, 0o777])
def test_socket_mode_is_that_whatever_the_umask(listen_as, umask, mask, mode):
    umask(mask)
    found = listen_as(mode)
    assert stat.S_ISSOCK(found.st_mode) and stat.S_IMODE(found.st_mode) == mode
    assert umask(mask) == mask


@root
@pytest.mark.parametrize(("mask", "mode"), [(0o007, 0o770), (0o022, 0o755)])
def test_without_a_mode_the_umask_decides(listen_as, umask, mask, mode):
    umask(mask)
    assert stat.S_IMODE(listen_as().st_mode) == mode


@root
def test_socket_owner(listen_as, umask):
    umask(0o027)
    found = listen_as(owner="nobody:daemon")
    assert (found.st_uid, found.st_gid) == (NOBODY.pw_uid, DAEMON.pw_gid)
    assert stat.S_IMODE(found.st_mode) == 0o750


@root
@pytest.mark.parametrize(
    ("owner", "uid", "gid"), [("nobody", NOBODY.pw_uid, 0), (":daemon", 0, DAEMON.pw_gid)]
)
def test_half_an_owner_leaves_the_other_half(listen_as, owner, uid, gid):
    found = listen_as(0o660, owner)
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (uid, gid, 0o660)


@root
def test_permissions_are_never_wider_than_wanted(tmp_path, umask):
    """What the kernel did, in its order: the file begins with no permission at all, and gets its
    own only when it has its owner."""
    umask(0)
    path = tmp_path / "s"
    seen = []
    inside = {"os.chown", "os.chmod", "os.listdir"}

    def watch(event, args):
        if event in inside and path.exists():
            found = path.stat()
            seen.append((event, stat.S_IMODE(found.st_mode), found.st_uid))

    def run():
        sys.addaudithook(watch)
        bind(Unix(str(path)), 16, mode=0o666, owner=identity.owner("nobody"))
        os.listdir(tmp_path)
        return seen

    nobody = NOBODY.pw_uid
    assert in_child(run) == str([
        ("os.chown", 0, 0), ("os.chmod", 0, nobody), ("os.listdir", 0o666, nobody)
    ])  # fmt: skip


def test_an_owner_who_cannot_be_had(tmp_path):
    tmp_path.chmod(0o777)
    path = tmp_path / "s"

    def run():
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(NOBODY.pw_gid)
            os.setuid(NOBODY.pw_uid)
        with pytest.raises(AddressError) as caught:
            bind(Unix(str(path)), 16, owner=identity.owner("daemon"))
        return caught.value

    # (pytest's directories above are root's alone: the child works from inside)
    before = os.open(".", os.O_PATH)
    os.chdir(tmp_path)
    try:
        path = path.relative_to(tmp_path)
        assert in_child(run) == "Cannot listen on unix:s: no permission to give it to daemon."
        assert not path.exists()
    finally:
        os.fchdir(before)
        os.close(before)


def test_what_is_put_in_the_socket_s_place_is_left_alone(listen, tmp_path):
    other = tmp_path / "other"
    listen(f"unix:{other}")
    mode = stat.S_IMODE(other.stat().st_mode)
    link = tmp_path / "s"
    link.symlink_to(other)
    file = tmp_path / "file"
    file.touch(0o600)
    for wrong in (link, file):
        with pytest.raises(OSError, match="something else"):
            sockets._dress(str(wrong), 0o666, None)
    assert stat.S_IMODE(other.stat().st_mode) == mode != 0o666
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


# -- systemd -----------------------------------------------------------------------------
@pytest.fixture
def messages(capfd):
    """What the log has said so far."""
    log.set_up("debug")
    return lambda: capfd.readouterr().err


def tcp():
    sock = socket.create_server(("127.0.0.1", 0))
    os.set_inheritable(sock.fileno(), True)
    return sock


def placed(*socks):
    """In a child: these on descriptors 3, 4, ..., as systemd passes them."""
    copies = [fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD, 100) for sock in socks]
    for number, copy in enumerate(copies, 3):
        os.dup2(copy, number)
        os.close(copy)


def environ_of(count, names=None, pid=None):
    environ = {"LISTEN_PID": str(pid or os.getpid()), "LISTEN_FDS": str(count), "OTHER": "1"}
    if names is not None:
        environ["LISTEN_FDNAMES"] = names
    return environ


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ("web:admin", [("web", 3), ("admin", 4)]),
        ("web:web", [("web", 3), ("web", 4)]),
        (None, [("unknown", 3), ("unknown", 4)]),
        (":web", [("unknown", 3), ("web", 4)]),
    ],
)
def test_activated(names, found):
    def run():
        placed(first, second)
        environ = environ_of(2, names)
        assert sockets.activated(environ) == found
        assert environ == {"OTHER": "1"}
        assert not os.get_inheritable(3) and not os.get_inheritable(4)
        assert sockets.activated(environ) == []

    with tcp() as first, tcp() as second:
        in_child(run)


def test_the_environment_itself_is_tidied():
    def run():
        placed(sock)
        os.environ.update(environ_of(1, "web"))
        assert Passed.from_environ().from_systemd() == [Systemd("web")]
        return [name for name in os.environ if name.startswith("LISTEN_")]

    with tcp() as sock:
        assert in_child(run) == "[]"


def test_sockets_for_somebody_else_are_ignored(messages):
    environ = environ_of(2, "web:admin", pid=1)
    assert sockets.activated(environ) == []
    assert environ == {"OTHER": "1"}
    said = messages()
    assert "[DEBUG] LISTEN_FDS is ignored: it is for process 1 (LISTEN_PID), this is " in said


def test_no_sockets():
    assert sockets.activated({}) == []
    assert sockets.activated(environ_of(0, "")) == []
    assert sockets.adopt({}) == {}
    assert Passed.from_environ({}).from_systemd() == []


@pytest.mark.parametrize(
    ("count", "names", "sentence"),
    [
        ("x", None, "LISTEN_FDS=x is not usable: it must be a number."),
        ("-1", None, "LISTEN_FDS=-1 is not usable: it must be a number."),
        ("2", "a", "LISTEN_FDNAMES=a is not usable: LISTEN_FDS says that there are 2."),
        ("99999", None, "LISTEN_FDS=99999 is not usable: descriptor "),
    ],
)
def test_activation_that_makes_no_sense(count, names, sentence):
    def run():
        with pytest.raises(AddressError) as caught:
            sockets.activated(environ_of(count, names))
        return caught.value

    assert in_child(run).startswith(sentence)


def open_all(*bind, passed, backlog=16):
    return sockets.open_all(
        bind, backlog=backlog, mode=None, owner=None, keepidle=0.0, passed=passed)


@pytest.fixture
def have():
    """`have(...)` is `open_all`, closed with the test."""
    opened = []

    def start(*bind, passed=None, **options):
        listeners = open_all(*bind, passed=passed or Passed(), **options)
        opened.extend(listeners)
        return listeners

    yield start
    for listener in opened:
        listener.close()


def numbers(listeners):
    return [(str(listener.address), listener.socket.fileno()) for listener in listeners]


def descriptors():
    """The open descriptors of this process, and what they are."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of the listing itself
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


def test_without_a_bind_the_passed_sockets_are_used(have):
    web, admin = tcp().detach(), tcp().detach()
    passed = Passed([("web", web), ("admin", admin)])
    listeners = have(passed=passed)
    assert numbers(listeners) == [("systemd:web", web), ("systemd:admin", admin)]
    assert not os.get_blocking(web) and not os.get_inheritable(web)
    assert listeners[0].url.startswith("http://127.0.0.1:")
    assert passed.from_systemd() == []


def test_without_anything_it_is_the_default():
    def run():
        assert sockets.DEFAULT_BIND == "127.0.0.1:8000"
        sockets.DEFAULT_BIND = "127.0.0.1:0"  # 8000 may be taken here
        return [str(listener.address) for listener in open_all(passed=Passed())]

    assert in_child(run) == "['127.0.0.1:0']"


def test_all_sockets_of_a_name(have):
    fds = [tcp().detach() for _ in range(3)]
    passed = Passed(zip(["web", "admin", "web"], fds, strict=True))
    listeners = have("127.0.0.1:0", "systemd:web", passed=passed)
    assert numbers(listeners)[1:] == [("systemd:web", fds[0]), ("systemd:web", fds[2])]
    assert numbers(have("systemd:admin", passed=passed)) == [("systemd:admin", fds[1])]


def test_an_unknown_name():
    passed = Passed([("web", tcp().detach())])
    start = "Cannot listen on systemd:wbe: systemd passed no socket of that name"
    with pytest.raises(AddressError) as caught:
        open_all("systemd:wbe", passed=passed)
    assert str(caught.value) == f"{start}, only systemd:web."
    sockets.close_all(passed.spare())
    with pytest.raises(AddressError) as caught:
        open_all("systemd:wbe", passed=Passed())
    assert str(caught.value) == f"{start}."
    assert sentence_of("systemd:wbe") == f"{start}."


def test_sockets_of_systemd_that_nobody_uses_are_kept_with_a_warning(have, messages):
    """A reload may bring a service that wants them."""
    web, admin, third = (tcp().detach() for _ in range(3))
    passed = Passed([("web", web), ("admin", admin), ("third", third)])
    assert numbers(have("systemd:web", f"fd://{third}", passed=passed)) == [
        ("systemd:web", web), (f"fd://{third}", third)]  # fmt: skip
    spare = passed.spare()
    assert numbers(spare) == [("systemd:admin", admin)]
    warnings = [line for line in messages().splitlines() if "[WARNING]" in line]
    assert len(warnings) == 1
    assert "systemd:admin was passed but nothing is bound to it." in warnings[0]
    open_now = descriptors()
    assert admin in open_now and web in open_now and third in open_now
    assert passed.spare() == [] and messages() == ""
    sockets.close_all(spare)


def test_a_passed_socket_that_is_no_listener():
    with socket.socket(type=socket.SOCK_DGRAM) as sock, pytest.raises(AddressError) as caught:
        open_all(passed=Passed([("web", sock.fileno())]))
    assert str(caught.value).startswith("Cannot listen on systemd:web: descriptor ")


def test_started_by_systemd_in_earnest():
    """A new program finds the socket, and clients who came before it."""
    program = (
        "import os\n"
        "from fastfork import sockets\n"
        "passed = sockets.Passed.from_environ()\n"
        "[one] = sockets.open_all((), backlog=9, mode=None, owner=None, keepidle=0.0,"
        " passed=passed)\n"
        "accepted, _ = one.socket.accept()\n"
        "accepted.send(f'{one.address} {one.url}'.encode())\n"
    )
    with tcp() as sock, socket.create_connection(sock.getsockname()) as client:
        pid = os.fork()
        if pid == 0:
            try:
                placed(sock)
                environ = {**os.environ, **environ_of(1, "web")}
                os.execve(sys.executable, [sys.executable, "-c", program], environ)
            finally:
                os._exit(1)
        assert os.waitpid(pid, 0) == (pid, 0)
        port = sock.getsockname()[1]
        assert client.recv(100) == f"systemd:web http://127.0.0.1:{port}".encode()


# -- errors leave nothing ----------------------------------------------------------------
def test_nothing_is_left_open_when_one_fails(have, tmp_path):
    [taken] = have("127.0.0.1:0")
    port = taken.socket.getsockname()[1]
    web = tcp().detach()
    before = descriptors()
    for bad in [f"127.0.0.1:{port}", "systemd:absent", "fd://99999"]:
        with pytest.raises(AddressError):
            open_all("127.0.0.1:0", f"unix:{tmp_path}/s", bad, passed=Passed())
        assert descriptors() == before
        assert not (tmp_path / "s").exists()
    with pytest.raises(AddressError):
        open_all("systemd:web", f"127.0.0.1:{port}", passed=Passed([("web", web)]))
    del before[web]
    assert descriptors() == before


def test_a_malformed_address_is_found_before_anything_is_bound(tmp_path):
    with pytest.raises(AddressError):
        open_all(f"unix:{tmp_path}/s", "nonsense", passed=Passed())
    assert not (tmp_path / "s").exists()


# -- a new master ------------------------------------------------------------------------
def handed(listeners):
    """A `Passed` as a new master has it, with descriptors of its own."""
    environ = sockets.hand_over(listeners)
    found = sockets.adopt(environ)
    assert environ == {}
    return Passed((), {text: [os.dup(fd) for fd in fds] for text, fds in found.items()})


def same(one, other):
    """Whether two listeners are one socket."""
    return os.path.samestat(os.fstat(one.socket.fileno()), os.fstat(other.socket.fileno()))


def test_a_new_master_takes_the_very_sockets(have, tmp_path):
    name = f"unix:@fastfork-test-{os.getpid()}"
    binds = [f"unix:{tmp_path}/s", "127.0.0.1:0", name, "127.0.0.1:0", "[::1]:0"]
    old = have(*binds)
    passed = handed(old)
    new = have(*reversed(binds), passed=passed)
    assert [listener.address for listener in new] == [parse(text) for text in reversed(binds)]
    # the two ports 0 in their order
    for mine, theirs in zip(new, [old[4], old[1], old[2], old[3], old[0]], strict=True):
        assert same(mine, theirs) and mine.url == theirs.url
        assert not os.get_inheritable(mine.socket.fileno())


def test_a_new_master_may_have_another_backlog(have, tmp_path):
    bind = f"unix:{tmp_path}/s"
    have(bind, passed=handed(have(bind)), backlog=0)
    with socket.socket(socket.AF_UNIX) as waiting, socket.socket(socket.AF_UNIX) as one_more:
        waiting.connect(f"{tmp_path}/s")
        one_more.setblocking(False)
        with pytest.raises(BlockingIOError):
            one_more.connect(f"{tmp_path}/s")


@root
def test_mode_and_owner_reach_the_socket(tmp_path):
    """And what was passed keeps its own."""
    [old] = sockets.open_all([f"unix:{tmp_path}/s"], backlog=16, mode=0o640, keepidle=0.0,
                             passed=Passed(), owner=identity.owner(":daemon"))  # fmt: skip
    [new] = sockets.open_all([f"unix:{tmp_path}/s"], backlog=16, mode=0o666, keepidle=0.0,
                             passed=handed([old]), owner=None)  # fmt: skip
    found = (tmp_path / "s").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o640, DAEMON.pw_gid)
    old.close()
    new.close()


def test_a_port_that_is_written_otherwise_is_the_same(have):
    [old] = have("127.0.0.1:0")
    port = old.socket.getsockname()[1]
    old.address = parse(str(port))
    [new] = have(f"127.0.0.1:{port}", passed=handed([old]))
    assert same(old, new)


def test_sockets_of_systemd_and_of_numbers_are_handed_over_too(have):
    web, second, number = (tcp().detach() for _ in range(3))
    old = have(passed=Passed([("web", web), ("web", second)])) + have(f"fd://{number}")
    environ = sockets.hand_over(old)
    assert json.loads(environ["FASTFORK_LISTENERS"]) == {
        "systemd:web": [web, second], f"fd://{number}": [number]}  # fmt: skip
    passed = handed(old)
    assert passed.from_systemd() == [Systemd("web")]
    new = have(passed=passed)  # no --bind: those of systemd
    assert [same(*pair) for pair in zip(old[:2], new, strict=True)] == [True, True]


def test_sockets_that_the_new_master_does_not_want_are_closed(have, tmp_path, messages):
    old = have("127.0.0.1:0", f"unix:{tmp_path}/s", "127.0.0.1:0")
    before = descriptors()
    passed = handed(old)
    new = have("127.0.0.1:0", passed=passed)
    spare = passed.spare()
    assert [listener.owns_file for listener in spare] == [False, False]
    sockets.close_all(spare)
    said = messages()
    assert f"[INFO] unix:{tmp_path}/s of the old master is not wanted any more." in said
    assert "[INFO] 127.0.0.1:0 of the old master is not wanted any more." in said
    assert "[WARNING]" not in said
    assert set(descriptors()) == {*before, new[0].socket.fileno()}


def test_the_file_is_removed_by_who_owns_it(have, tmp_path):
    path = tmp_path / "s"
    [old] = have(f"unix:{path}")
    [new] = have(f"unix:{path}", passed=handed([old]))
    old.remove()
    assert path.exists()
    old.close()
    new.remove()  # it does not serve yet
    assert path.exists()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    sockets.claim([new])
    new.remove()
    assert not path.exists()


def test_a_new_master_that_fails_leaves_the_file(have, tmp_path):
    path = tmp_path / "s"
    [old] = have(f"unix:{path}")
    with pytest.raises(AddressError):
        open_all(f"unix:{path}", "systemd:absent", passed=handed([old]))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    sockets.claim([old])
    old.remove()
    assert not path.exists()


@pytest.mark.parametrize(
    "text", ["", "[]", "3", '{"127.0.0.1:0": 3}', '{"127.0.0.1:0": ["x"]}', '{"a": null}', "{"]
)
def test_a_variable_that_no_master_wrote(text):
    with pytest.raises(AddressError, match="no master of fastfork wrote that"):
        sockets.adopt({"FASTFORK_LISTENERS": text})


@pytest.mark.parametrize("fd", [99999, -1, 1 << 40])
def test_a_variable_about_descriptors_that_are_not_open(fd):
    with pytest.raises(AddressError, match="not all of them are open"):
        sockets.adopt({"FASTFORK_LISTENERS": json.dumps({"127.0.0.1:0": [fd]})})


def test_handed_over_to_a_new_program(have, tmp_path):
    path = tmp_path / "s"
    old = have("127.0.0.1:0", f"unix:{path}")
    program = (
        "import os\n"
        "from fastfork import sockets\n"
        "passed = sockets.Passed.from_environ()\n"
        f"bind = ('127.0.0.1:0', 'unix:{path}')\n"
        "new = sockets.open_all(bind, backlog=9, mode=None, owner=None, keepidle=0.0,"
        " passed=passed)\n"
        "print(*[one.url for one in new], 'FASTFORK_LISTENERS' in os.environ)\n"
        "for one in new: one.remove()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **sockets.hand_over(old)},
        pass_fds=[listener.socket.fileno() for listener in old],
        stdout=subprocess.PIPE, text=True, check=True, timeout=60)  # fmt: skip
    assert done.stdout == f"{old[0].url} {old[1].url} False\n"
    assert path.exists()


def test_a_listener_removes_its_file_unless_told_otherwise(tmp_path):
    path = tmp_path / "s"
    listener = bind(Unix(str(path)), 16)
    assert listener.owns_file
    sockets.hand_over([listener])
    listener.remove()
    assert path.exists() and not listener.owns_file
    sockets.claim([listener])
    listener.remove()
    assert not path.exists()
    listener.close()


# -- sockets that are open already -------------------------------------------------------
def kept(bind, have, **more):
    """What a reload opens for `bind`."""
    return sockets.open_all(bind, backlog=8, mode=None, owner=None, keepidle=0.0,
                            passed=Passed(late=True), have=have, **more)  # fmt: skip


def test_an_address_that_stays_keeps_its_socket(have, tmp_path):
    old = have("127.0.0.1:0", f"unix:{tmp_path}/s", "127.0.0.1:0")
    new = kept([f"unix:{tmp_path}/s", "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"], old)
    assert new[:3] == [old[1], old[0], old[2]]
    assert new[3] not in old
    sockets.close_all(new[3:])


def test_if_one_cannot_be_had_those_that_were_there_stay_open(have, tmp_path):
    old = have(f"unix:{tmp_path}/s")
    with pytest.raises(AddressError):
        kept([f"unix:{tmp_path}/s", f"unix:{tmp_path}/absent/s"], old)
    assert old[0].socket.fileno() >= 0 and old[0].intact()


def test_all_that_systemd_passed_under_a_name_stay_together(have):
    fds = [tcp().detach() for _ in range(2)]
    old = have("systemd:web", passed=Passed([("web", fd) for fd in fds]))
    assert kept(["systemd:web"], [*old, *old]) == old
    assert kept([], [*old, *old], default=[old[0].address]) == old


def test_a_socket_whose_file_is_gone_is_made_again(have, tmp_path):
    old = have(f"unix:{tmp_path}/s")
    (tmp_path / "s").unlink()
    [new] = kept([f"unix:{tmp_path}/s"], old)
    assert new is not old[0] and new.intact() and not old[0].intact()
    sockets.close_all(old)
    assert (tmp_path / "s").exists()        # it is another one's now
    sockets.close_all([new])
    assert not (tmp_path / "s").exists()


def test_a_descriptor_is_taken_over_at_the_start_only(have):
    sock = tcp()
    with pytest.raises(AddressError, match="at the start only"):
        kept([f"fd://{sock.fileno()}"], [])
    old = have(f"fd://{sock.fileno()}")
    assert kept([f"fd://{sock.detach()}"], old) == old


@root
def test_what_can_be_changed_of_an_open_socket(have, tmp_path):
    tcp_one, unix = have("127.0.0.1:0", f"unix:{tmp_path}/s")
    sockets.adjust([tcp_one, unix], backlog=3, mode=0o604, owner=identity.owner(":daemon"),
                   keepidle=90.4)  # fmt: skip
    assert tcp_one.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert tcp_one.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 90
    found = (tmp_path / "s").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o604, DAEMON.pw_gid)
    with socket.create_connection(tcp_one.socket.getsockname()):
        accepted, _ = tcp_one.socket.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 90
    sockets.adjust([tcp_one], backlog=3, mode=None, owner=None, keepidle=0.0)
    assert tcp_one.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0


def test_what_cannot_be_changed_is_a_warning(have, tmp_path, messages):
    [unix] = have(f"unix:{tmp_path}/s")
    (tmp_path / "s").unlink()
    sockets.adjust([unix], backlog=3, mode=0o600, owner=None, keepidle=0.0)
    assert f"[WARNING] unix:{tmp_path}/s stays as it was: its file is gone." in messages()


def test_who_keeps_an_address_from_being_bound(have, tmp_path):
    [tcp_one, unix] = have("127.0.0.1:0", f"unix:{tmp_path}/s")
    port = tcp_one.socket.getsockname()[1]
    for text, by_tcp, by_unix in [
        (f"0.0.0.0:{port}", True, False), (f"localhost:{port}", True, False),
        ("127.0.0.1:1", False, False), (f"unix:{tmp_path}/s", False, True),
        (f"unix:{tmp_path}/t", False, False),
    ]:  # fmt: skip
        address = sockets.parse(text)
        assert sockets.collide(address, tcp_one) is by_tcp
        assert sockets.collide(address, unix) is by_unix


def test_an_address_that_is_wanted_once_has_one_socket(have):
    old = have("127.0.0.1:0", "127.0.0.1:0")
    assert kept(["127.0.0.1:0"], old) == old[:1]
