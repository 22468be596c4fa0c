"""Who the workers are, and who owns unix sockets.

The master keeps the rights that it was started with: it needs them to bind, and to reopen.
Every worker lays them down before there is application code in it.  Names are looked up once,
by the master, so that a wrong one is found at the start and no child asks a directory server.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from fastfork.kinds import ConfigError

HIGHEST = (1 << 32) - 2  # the number above is (uid_t) -1: "leave it as it is"
UNCHANGED = -1


class Identity(NamedTuple):
    """A user, a group, and all supplementary groups, by number."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    environ: Mapping[str, str | None] = MappingProxyType({})  # None: to be removed

    def __str__(self) -> str:
        return f"user {self.uid}, group {self.gid}"

    def assume(self, umask: int | None = None) -> None:
        """Become it, for good, and take its HOME, USER and LOGNAME; `umask` None: as it is.

        ConfigError if the kernel refuses, or if the way back is open.  The kernel forgets
        PR_SET_PDEATHSIG when the identity changes.
        """
        try:
            os.setgroups(self.groups)
            os.setresgid(self.gid, self.gid, self.gid)
            os.setresuid(self.uid, self.uid, self.uid)
        except OSError as error:
            raise ConfigError(f"Cannot become {self}: {error.strerror}.") from None
        self._verify()
        for name, value in self.environ.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if umask is not None:
            os.umask(umask)

    def _verify(self) -> None:
        """A capability that survives setuid (a securebit, an odd container) must be noticed here,
        not by an attacker."""
        if (
            os.getresuid() != (self.uid,) * 3
            or os.getresgid() != (self.gid,) * 3
            or set(os.getgroups()) != set(self.groups)
        ):
            raise ConfigError(f"Cannot become {self}: the kernel made it something else.")
        if self.uid == 0:
            return
        try:
            os.setuid(0)
        except PermissionError:
            return
        raise ConfigError(f"Cannot become {self}: it could become root again.")


def resolve(user: str | None, group: str | None) -> Identity | None:
    """Whom workers become with these values of --user and --group, names or numbers; None if
    nothing changes.

    The group is that of the user unless one is given; without a user only the group changes.
    ConfigError if one is unknown, or if only root could do it and we are not root.
    """
    if user is None and group is None:
        return None
    uid, account = (os.geteuid(), None) if user is None else _user("--user", user)
    gid = None if group is None else _group("--group", group)
    if os.geteuid() != 0:
        _check_unchanged(user, uid, group, gid)
        return None
    if gid is None:
        if account is None:
            raise ConfigError(
                f"--user {user!r} is not usable without --group: no user has that number, so its "
                "group is not known.")
        gid = account.pw_gid
    if user is None:
        return Identity(uid, gid, tuple(os.getgroups()))
    if account is None:
        return Identity(uid, gid, (gid,), {"HOME": "/", "USER": None, "LOGNAME": None})
    name = account.pw_name
    return Identity(uid, gid, tuple(os.getgrouplist(name, gid)),
                    {"HOME": account.pw_dir, "USER": name, "LOGNAME": name})  # fmt: skip


def _check_unchanged(user: str | None, uid: int, group: str | None, gid: int | None) -> None:
    if uid != os.geteuid():
        raise ConfigError(f"--user {user!r} is not usable: only root can become somebody else.")
    if gid is not None and gid != os.getegid():
        raise ConfigError(f"--group {group!r} is not usable: only root can change its group.")


# -- owners of sockets -------------------------------------------------------------------
class Owner(NamedTuple):
    """Numbers for chown(2), UNCHANGED where nothing was said; `text` is what was written."""

    uid: int
    gid: int
    text: str

    def __str__(self) -> str:
        return self.text


def owner(text: str) -> Owner:
    """The value of --socket-owner: USER, USER:GROUP or :GROUP, names or numbers.  ConfigError."""
    user, colon, group = text.partition(":")
    if not (user or group) or (colon and not group):
        raise ConfigError(
            f"--socket-owner {text!r} is not usable: it must be USER, USER:GROUP or :GROUP.")
    uid = _user("--socket-owner", user, text)[0] if user else UNCHANGED
    gid = _group("--socket-owner", group, text) if group else UNCHANGED
    return Owner(uid, gid, text)


# -- looking up --------------------------------------------------------------------------
def _user(flag: str, user: str, text: str | None = None) -> tuple[int, pwd.struct_passwd | None]:
    """Its number, and its entry unless it is a number that has none.  `text` is the whole value
    of the flag if there is more to it.  As chown(1) does, a name is preferred to a number."""
    try:
        account = pwd.getpwnam(user)
        return account.pw_uid, account
    except KeyError:
        pass
    number = _number(user)
    if number is None:
        raise ConfigError(f"{flag} {text or user!r} is not usable: there is no user {user!r}.")
    try:
        return number, pwd.getpwuid(number)
    except KeyError:
        return number, None


def _group(flag: str, group: str, text: str | None = None) -> int:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        pass
    number = _number(group)
    if number is None:
        raise ConfigError(f"{flag} {text or group!r} is not usable: there is no group {group!r}.")
    return number


def _number(text: str) -> int | None:
    if re.fullmatch(r"[0-9]{1,10}", text, re.ASCII) and int(text) <= HIGHEST:
        return int(text)
    return None
