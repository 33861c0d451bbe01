"""Ports of this machine, and why a process cannot listen on one."""

import errno
import socket

from infra.config import variable

MAX_PORT = 65535


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def is_taken(port: int) -> bool:
    """Whether a process listens on the port."""
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def fault(server: str, host: str, port: int, error: Exception) -> str:
    """Why `server`, such as "api", cannot listen at the address of its two settings."""
    match getattr(error, "errno", None):
        case errno.EADDRINUSE:
            return f"another process listens on {host}:{port}; set {variable(f'{server}_port')}"
        case errno.EACCES:
            setting = variable(f"{server}_port")
            return f"{setting}={port}: this account may not listen on that port"
        case errno.EADDRNOTAVAIL | errno.EAFNOSUPPORT:
            return f"{variable(f'{server}_host')}={host} is no address of this machine"
    if isinstance(error, socket.gaierror | UnicodeError):
        return f"{variable(f'{server}_host')}={host} is no address of this machine"
    return f"cannot listen on {host}:{port}: {getattr(error, 'strerror', error)}"
