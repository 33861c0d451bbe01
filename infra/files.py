"""Why a file of another account, or on a full or read-only disk, cannot be used, and the cure."""

import errno
import os
import pwd
from pathlib import Path

PASSING = (
    errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM,
    errno.ESTALE, errno.EBUSY,
)  # fmt: skip


def may_pass(error: OSError) -> bool:
    """Whether an error may end by itself, such as a full disk; others a person must mend."""
    return error.errno in PASSING


def refusal(file: Path, instead: str) -> str:
    """Why this account may not use a file or directory, and the cure; or else do `instead`."""
    try:
        read_only = bool(os.statvfs(file).f_flag & os.ST_RDONLY)
    except OSError:
        read_only = False
    if read_only:
        return f"{file} is on a read-only file system; {instead}"
    return f"this account may not use {file}; {cure(file, instead)}"


def cure(file: Path, instead: str) -> str:
    """What to do about a file or directory that this account may not use; or else `instead`."""
    owner = _other_owner(file)
    return instead if owner is None else f"run this as {owner}, the owner of {file}, or {instead}"


def _other_owner(file: Path) -> str | None:
    try:
        owner = file.stat().st_uid
    except OSError:
        return None
    if owner == os.geteuid():
        return None
    try:
        return pwd.getpwuid(owner).pw_name
    except KeyError:
        return f"account {owner}"
