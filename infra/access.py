"""Which clients a server of this project answers: those with a key, or this machine alone."""

import hmac
from collections.abc import Iterable
from ipaddress import ip_address

from infra.config import Settings, variable
from infra.errors import ConfigError

MIN_KEY_LENGTH = 16  # characters; shorter ones can be guessed
LOCAL_NAMES = frozenset(("localhost", ""))


def read_keys(settings: Settings) -> tuple[bytes, ...]:
    """The keys of the settings and of their file; raises ConfigError, which shows no key."""
    lines = settings.api_keys.reveal().split(",")
    if (path := settings.api_keys_file) is not None:
        try:
            lines += path.read_text().splitlines()
        except (OSError, UnicodeDecodeError) as e:
            raise ConfigError(f"{variable('api_keys_file')}: {path} cannot be read") from e
    keys = [line.strip() for line in lines if line.strip()]
    if any(len(key) < MIN_KEY_LENGTH for key in keys):
        raise ConfigError(
            f"a key of {variable('api_keys')} or its file is shorter than {MIN_KEY_LENGTH} "
            "characters; make one: openssl rand -hex 16"
        )
    return tuple(key.encode() for key in keys)


def check_reachable(setting: str, host: str, keys: Iterable[bytes]) -> None:
    """Raise ConfigError for an address that other machines can reach, if there are no keys."""
    if not any(keys) and not is_loopback(host):
        raise ConfigError(
            f"{variable(setting)}={host} can be reached from other machines: set "
            f"{variable('api_keys')} or {variable('api_keys_file')}"
        )


def find_key(keys: Iterable[bytes], authorization: bytes) -> bytes | None:
    """The key that an Authorization header carries as `Bearer KEY`, if it is one of `keys`."""
    scheme, _, sent = authorization.partition(b" ")
    sent = sent.strip()
    # All keys are compared, so the time does not depend on which one it is.
    found = [key for key in keys if hmac.compare_digest(key, sent)]
    return found[0] if found and scheme.lower() == b"bearer" else None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address, or a name that is always its own.

    Such names are `localhost` and all below it (RFC 6761), also with the dot of the root.
    """
    try:
        address = ip_address(host.strip("[]"))
        return (getattr(address, "ipv4_mapped", None) or address).is_loopback
    except ValueError:
        name = host.lower().removesuffix(".")
        return name in LOCAL_NAMES or name.endswith(".localhost")


def name_of_host(header: bytes) -> str:
    """The name in a Host header, without its port."""
    text = header.decode("latin-1")
    return text if text.endswith("]") else text.rpartition(":")[0] or text
