"""Why a connection is refused: a sentence that names the setting to change."""

import ssl
from collections.abc import Sequence

from aiokafka.errors import (
    IllegalSaslStateError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)

from infra.broker.security.credentials import uses_sasl
from infra.config import Settings, variable
from infra.errors import ConfigError

# Of OpenSSL, x509_vfy.h.
_NAME_MISMATCH = (62, 64)
_UNKNOWN_CA = (18, 19, 20, 21)
_WRONG_SIGNATURE = "wrong signature"  # of the broker, in aiokafka's ValueError


def explain(error: BaseException, server: str, settings: Settings) -> str | None:
    """Why `server`, as host:port, is not connected; None if it may just be away."""
    if isinstance(error, ConfigError):
        return str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return _explain_certificate(error, server, settings)
    alert = _tls_alert(error)
    if alert is not None:
        return _explain_alert(alert, server, settings)
    if isinstance(error, SaslAuthenticationFailed):
        return f"the broker at {server} refuses {_login(settings)}"
    if isinstance(error, ValueError) and _WRONG_SIGNATURE in str(error):
        return f"the broker at {server} does not know the password of {_login(settings)}"
    if isinstance(error, UnsupportedSaslMechanismError):
        return (
            f"the broker at {server} has no {settings.broker_sasl_mechanism}; "
            f"{variable('broker_sasl_mechanism')} must be one of: {error.args[0]}"
        )
    if isinstance(error, IllegalSaslStateError):
        other = settings.broker_protocol.removeprefix("SASL_")
        return f"the broker at {server} has no SASL; {_protocol(settings)} must be {other}"
    return None


def _login(settings: Settings) -> str:
    """Who logs in, and the settings that decide it."""
    if settings.broker_sasl_mechanism == "OAUTHBEARER":
        file = settings.broker_oauth_token_file
        name = "broker_oauth_url" if file is None else "broker_oauth_token_file"
        return f"the access token; check {variable(name)}"
    file = settings.broker_password_file
    name = "broker_password" if file is None else "broker_password_file"
    return (
        f"user {settings.broker_username!r}; check {variable('broker_username')}, "
        f"{variable(name)} and {variable('broker_sasl_mechanism')}"
    )


def _explain_certificate(
    error: ssl.SSLCertVerificationError, server: str, settings: Settings
) -> str:
    ca, reason = variable("broker_tls_ca"), error.verify_message
    if error.verify_code in _NAME_MISMATCH:
        return (
            f"the certificate of the broker at {server} has another host name; use the name that "
            f"it has in {variable('broker')}, or in the broker's advertised.listeners, or set "
            f"{variable('broker_tls_check_hostname')}=off"
        )
    if error.verify_code in _UNKNOWN_CA:
        known = settings.broker_tls_ca
        trusted = f"{ca} is not set" if known is None else f"{ca}={known} has another one"
        return (
            f"the certificate of the broker at {server} is of an unknown CA, and {trusted} "
            f"({reason})"
        )
    return f"the certificate of the broker at {server} is not valid: {reason}; see {ca}"


def _tls_alert(error: BaseException | None) -> str | None:
    """The alert with which the broker ended TLS, or what was wrong in it."""
    while error is not None:
        if isinstance(error, ssl.SSLError) and error.reason:
            return None if "EOF" in error.reason else str(error.reason)
        error = error.__cause__
    return None


def _explain_alert(alert: str, server: str, settings: Settings) -> str:
    text = alert.replace("_", " ").lower()
    if alert in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
        return without_tls(server, settings)
    if "CERTIFICATE" not in alert and "UNKNOWN_CA" not in alert:
        return f"the broker at {server} refuses TLS ({text}); see {variable('broker_protocol')}"
    name = variable("broker_tls_certificate")
    if settings.broker_tls_certificate is None:
        return f"the broker at {server} requires a client certificate ({text}); set {name}"
    return (
        f"the broker at {server} refuses the client certificate {name}="
        f"{settings.broker_tls_certificate} ({text}): it has expired, or is of a CA that the "
        "broker does not know"
    )


def without_tls(server: str, settings: Settings) -> str:
    """That the broker has no TLS on that port."""
    other = "SASL_PLAINTEXT" if uses_sasl(settings) else "PLAINTEXT"
    return f"the broker at {server} answers without TLS; {_protocol(settings)} must be {other}"


def requires_tls(server: str, settings: Settings) -> str:
    """That the broker has only TLS on that port."""
    other = "SASL_SSL" if uses_sasl(settings) else "SSL or SASL_SSL"
    return f"the broker at {server} requires TLS; {_protocol(settings)} must be {other}"


def requires_login(server: str, settings: Settings, mechanisms: Sequence[str]) -> str:
    """That the broker requires SASL on that port."""
    other = "SASL_PLAINTEXT" if settings.broker_protocol == "PLAINTEXT" else "SASL_SSL"
    return (
        f"the broker at {server} requires a login; {_protocol(settings)} must be {other}, and "
        f"{variable('broker_sasl_mechanism')} one of: {', '.join(mechanisms)}"
    )


def _protocol(settings: Settings) -> str:
    return f"{variable('broker_protocol')}={settings.broker_protocol}"
