"""The settings of a secured broker: which belong together, and how a secret stays out of output."""

import re
from collections.abc import Mapping
from typing import Any, Literal, get_args

from infra.errors import ConfigError
from infra.variables import variable

# The words of Kafka's `security.protocol` and `sasl.mechanism`.
Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]

CHOICES: Mapping[str, tuple[str, ...]] = {
    "broker_protocol": get_args(Protocol),
    "broker_sasl_mechanism": get_args(Mechanism),
}
# Each secret has a variable, or a file that is read for each login.
SECRETS = ("broker_password", "broker_tls_key_password", "broker_oauth_client_secret")

_TLS = ("SSL", "SASL_SSL")
_SASL = ("SASL_PLAINTEXT", "SASL_SSL")
_PASSWORDS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


class Secret:
    """A text that no output shows. Only `reveal` returns it."""

    __slots__ = ("_text",)

    def __init__(self, text: str = "") -> None:
        self._text = text

    def reveal(self) -> str:
        """The text, for a login."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __repr__(self) -> str:
        return "Secret(…)" if self._text else "Secret()"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)


def choice(name: str, text: str) -> str:
    """One of the words that a setting takes, in any case of letters; raises ConfigError."""
    if text.upper() not in CHOICES[name]:
        raise ConfigError(f"{variable(name)}={text!r} is not one of: {', '.join(CHOICES[name])}")
    return text.upper()


def check(given: Mapping[str, Any]) -> None:
    """Raise ConfigError for settings that miss others, or that would have no effect.

    `given` has the settings that are not at their defaults.
    """
    _check_addresses(given)
    protocol = given.get("broker_protocol", "PLAINTEXT")
    if protocol != "PLAINTEXT" and "broker" not in given:
        raise ConfigError(
            f"{variable('broker_protocol')}={protocol} needs {variable('broker')}: the embedded "
            "broker has neither TLS nor SASL"
        )
    for name in SECRETS:
        if name in given and f"{name}_file" in given:
            raise ConfigError(f"set {variable(name)} or {variable(f'{name}_file')}, not both")
    _check_effect(given, protocol)
    _check_tls(given)
    if protocol in _SASL:
        _check_login(given)


def _check_addresses(given: Mapping[str, Any]) -> None:
    broker, name = given.get("broker", ""), variable("broker")
    if "@" in broker:  # never shown: what is before it may be a password
        raise ConfigError(
            f"{name} must be host:port[,host:port…] without a user; set "
            f"{variable('broker_username')} and {variable('broker_password')}"
        )
    for server in filter(None, broker.split(",")):
        host, _, port = server.strip().rpartition(":")
        if not host or "/" in host or not port.isdigit() or not 1 <= int(port) <= 65535:
            hint = f"; for TLS or SASL, set {variable('broker_protocol')}" if "//" in server else ""
            raise ConfigError(f"{name} must be host:port[,host:port…]{hint}")
    if not re.fullmatch(r"(https?://[^/?#@\s]+(/[^#\s]*)?)?", given.get("broker_oauth_url", "")):
        raise ConfigError(
            f"{variable('broker_oauth_url')} must be https://host/path, without user and password"
        )
    extension = r"\s*[A-Za-z]+=[\x20-\x2b\x2d-\x7e]+"
    if not re.fullmatch(f"({extension}(,{extension})*)?", given.get("broker_oauth_extensions", "")):
        raise ConfigError(f"{variable('broker_oauth_extensions')} must be NAME=VALUE[,NAME=VALUE…]")


def _check_effect(given: Mapping[str, Any], protocol: str) -> None:
    mechanism = given.get("broker_sasl_mechanism")
    for name in given:
        if name.startswith("broker_tls_") and protocol not in _TLS:
            _refuse_unused(name, "broker_protocol", "SASL_SSL or SSL")
        if _is_of_login(name) and protocol not in _SASL:
            _refuse_unused(name, "broker_protocol", "SASL_SSL or SASL_PLAINTEXT")
        if name.startswith("broker_oauth_") and mechanism != "OAUTHBEARER":
            _refuse_unused(name, "broker_sasl_mechanism", "OAUTHBEARER")
        if name.startswith(("broker_username", "broker_password")) and mechanism == "OAUTHBEARER":
            _refuse_unused(name, "broker_sasl_mechanism", f"one of {', '.join(_PASSWORDS)}")


def _is_of_login(name: str) -> bool:
    return name.startswith(("broker_sasl_", "broker_username", "broker_password", "broker_oauth_"))


def _refuse_unused(name: str, other: str, value: str) -> None:
    raise ConfigError(f"{variable(name)} has no effect unless {variable(other)} is {value}")


def _check_tls(given: Mapping[str, Any]) -> None:
    if "broker_tls_key" in given and "broker_tls_certificate" not in given:
        _require(given, "broker_tls_certificate", "broker_tls_key")


def _check_login(given: Mapping[str, Any]) -> None:
    _require(given, "broker_sasl_mechanism", "broker_protocol")
    if given["broker_sasl_mechanism"] != "OAUTHBEARER":
        _require(given, "broker_username", "broker_sasl_mechanism")
        _require(given, "broker_password", "broker_sasl_mechanism")
    elif "broker_oauth_url" in given and "broker_oauth_token_file" in given:
        names = map(variable, ("broker_oauth_token_file", "broker_oauth_url"))
        raise ConfigError(f"set {' or '.join(names)}, not both")
    elif "broker_oauth_url" in given:
        _require(given, "broker_oauth_client_id", "broker_oauth_url")
        _require(given, "broker_oauth_client_secret", "broker_oauth_url")
    elif "broker_oauth_token_file" not in given:
        names = map(variable, ("broker_oauth_token_file", "broker_oauth_url"))
        raise ConfigError(
            f"{variable('broker_sasl_mechanism')}=OAUTHBEARER needs {' or '.join(names)}"
        )


def _require(given: Mapping[str, Any], name: str, reason: str) -> None:
    """`name`, or its file if it is a secret, must be set as well."""
    names = (name, f"{name}_file") if name in SECRETS else (name,)
    if not any(n in given for n in names):
        value = "" if isinstance(given[reason], Secret) else f"={given[reason]}"
        raise ConfigError(
            f"{variable(reason)}{value} needs {' or '.join(variable(n) for n in names)}"
        )
