import ctypes
import grp
import os
import pwd

import pytest
from forked import in_child

from fastfork import identity
from fastfork.identity import UNCHANGED, owner, resolve
from fastfork.kinds import ConfigError

NOBODY = pwd.getpwnam("nobody")
NUMBER = 54321  # has no entry
PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP = 28, 1 << 2  # prctl(2), capabilities(7)

root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


def sentence_of(function, *args):
    with pytest.raises(ConfigError) as caught:
        function(*args)
    sentence = str(caught.value)
    assert sentence.endswith(".") and "\n" not in sentence
    return sentence


def as_nobody(act):
    """`act` as a user who is not root and has no supplementary groups."""

    def run():
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(NOBODY.pw_gid)
            os.setuid(NOBODY.pw_uid)
        return act()

    return in_child(run)


@pytest.fixture
def member():
    """A user who is in a group besides his own, and the number of that group."""
    for group in grp.getgrall():
        for name in group.gr_mem:
            try:
                account = pwd.getpwnam(name)
            except KeyError:
                continue
            if account.pw_uid != 0 and account.pw_gid != group.gr_gid:
                return account, group.gr_gid
    pytest.skip("no user of this machine has a supplementary group")


def test_nothing_asked_for():
    assert resolve(None, None) is None


@root
def test_a_user_by_name_and_by_number():
    by_name = resolve("nobody", None)
    assert by_name == resolve(str(NOBODY.pw_uid), None)
    assert (by_name.uid, by_name.gid) == (NOBODY.pw_uid, NOBODY.pw_gid)
    assert by_name.groups == (NOBODY.pw_gid,)
    assert by_name.environ == {"HOME": NOBODY.pw_dir, "USER": "nobody", "LOGNAME": "nobody"}


@root
def test_a_group_besides_the_user():
    daemon = grp.getgrnam("daemon").gr_gid
    found = resolve("nobody", "daemon")
    assert (found.uid, found.gid) == (NOBODY.pw_uid, daemon)
    assert daemon in found.groups
    assert found == resolve("nobody", str(daemon))


@root
def test_supplementary_groups(member):
    account, group = member
    found = resolve(account.pw_name, None)
    assert set(found.groups) == {*os.getgrouplist(account.pw_name, account.pw_gid)}
    assert group in found.groups and account.pw_gid in found.groups


@root
def test_a_number_without_an_entry_has_only_its_group():
    found = resolve(str(NUMBER), "4242")
    assert (found.uid, found.gid, found.groups) == (NUMBER, 4242, (4242,))
    sentence = sentence_of(resolve, str(NUMBER), None)
    assert sentence.startswith(f"--user '{NUMBER}' is not usable without --group: ")


@root
def test_a_group_alone_leaves_the_user():
    found = resolve(None, "daemon")
    assert (found.uid, found.gid) == (0, grp.getgrnam("daemon").gr_gid)
    assert found.groups == tuple(os.getgroups())
    assert found.environ == {}


@pytest.mark.parametrize("name", ["no-such-name", "-1", "4294967295", "99999999999", "1e3"])
def test_unknown(name):
    user = f"--user {name!r} is not usable: there is no user {name!r}."
    assert sentence_of(resolve, name, None) == user
    group = f"--group {name!r} is not usable: there is no group {name!r}."
    assert sentence_of(resolve, None, name) == group


def test_who_is_not_root_cannot_change():
    def ask():
        return "\n".join([
            sentence_of(resolve, "daemon", None), sentence_of(resolve, "root", None),
            sentence_of(resolve, None, "daemon"),
            sentence_of(resolve, str(os.getuid()), "daemon"),
        ])  # fmt: skip

    assert as_nobody(ask).split("\n") == [
        "--user 'daemon' is not usable: only root can become somebody else.",
        "--user 'root' is not usable: only root can become somebody else.",
        "--group 'daemon' is not usable: only root can change its group.",
        "--group 'daemon' is not usable: only root can change its group.",
    ]


def test_who_is_not_root_may_ask_for_what_he_is():
    def ask():
        assert resolve(str(os.getuid()), str(os.getgid())) is None
        assert resolve(str(os.getuid()), None) is None
        assert resolve(None, str(os.getgid())) is None

    as_nobody(ask)


@root
def test_assume(member):
    account, group = member
    found = resolve(account.pw_name, None)

    def become():
        os.environ["HOME"] = "/root"
        found.assume(0o027)
        assert os.getresuid() == (account.pw_uid,) * 3
        assert os.getresgid() == (account.pw_gid,) * 3
        assert set(os.getgroups()) == set(found.groups) and group in os.getgroups()
        assert os.environ["HOME"] == account.pw_dir
        assert os.environ["USER"] == os.environ["LOGNAME"] == account.pw_name
        assert os.umask(0) == 0o027
        for number in (0, account.pw_uid + 1):
            with pytest.raises(PermissionError):
                os.setuid(number)
        with pytest.raises(PermissionError):
            os.setgid(0)
        with pytest.raises(PermissionError):
            os.setgroups([0])

    in_child(become)


@root
def test_root_s_groups_are_laid_down():
    def become():
        os.setgroups([0, 4, 27])
        resolve("nobody", None).assume()
        assert os.getgroups() == [NOBODY.pw_gid]

    in_child(become)


@root
def test_a_number_without_an_entry_is_nobody_by_name():
    def become():
        os.environ.update(HOME="/root", USER="root", LOGNAME="root")
        before = os.umask(0o022)
        resolve(str(NUMBER), "4242").assume(None)
        assert os.getresuid() == (NUMBER,) * 3 and os.getgroups() == [4242]
        assert os.environ["HOME"] == "/"
        assert "USER" not in os.environ and "LOGNAME" not in os.environ
        assert os.umask(before) == 0o022

    in_child(become)


@root
def test_a_group_alone_is_assumed_too():
    def become():
        home = os.environ.get("HOME")
        resolve(None, "daemon").assume()
        assert os.getresgid() == (grp.getgrnam("daemon").gr_gid,) * 3
        assert os.getuid() == 0 and os.environ.get("HOME") == home

    in_child(become)


@root
def test_a_way_back_to_root_is_noticed():
    def become():
        assert ctypes.CDLL(None).prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0) == 0
        return sentence_of(resolve("nobody", None).assume)

    assert "could become root again" in in_child(become)


@root
def test_a_refusal_of_the_kernel_is_a_sentence():
    found = resolve("nobody", None)
    daemon = resolve("daemon", None)

    def become():
        found.assume()
        return sentence_of(daemon.assume)

    sentence = in_child(become)
    assert sentence.startswith(f"Cannot become user {daemon.uid}, group {daemon.gid}: ")


def test_owner():
    nobody, daemon = NOBODY.pw_uid, grp.getgrnam("daemon").gr_gid
    for text, uid, gid in [
        ("nobody", nobody, UNCHANGED), (str(nobody), nobody, UNCHANGED),
        ("nobody:daemon", nobody, daemon), (":daemon", UNCHANGED, daemon),
        (f"{NUMBER}:4242", NUMBER, 4242), (":0", UNCHANGED, 0),
    ]:  # fmt: skip
        found = owner(text)
        assert (found.uid, found.gid, str(found)) == (uid, gid, text)


@pytest.mark.parametrize("text", ["", ":", "nobody:"])
def test_half_an_owner(text):
    sentence = sentence_of(owner, text)
    assert sentence.startswith(f"--socket-owner {text!r} is not usable: it must be USER, ")


def test_unknown_owner():
    start = "--socket-owner 'nobody:no-such' is not usable: "
    assert sentence_of(owner, "nobody:no-such") == f"{start}there is no group 'no-such'."
    assert "there is no user 'no-such'" in sentence_of(owner, "no-such:daemon")
    assert "there is no group 'a:b'" in sentence_of(owner, "nobody:a:b")


def test_a_name_is_preferred_to_a_number(monkeypatch):
    account = pwd.struct_passwd(("1000", "x", 77, 88, "", "/home", "/bin/sh"))
    monkeypatch.setattr(identity.pwd, "getpwnam", lambda name: account)
    assert owner("1000").uid == 77
