"""The environment variables of settings: their names, and those that are made by other programs."""

import re

PREFIX = "PETAL_"

# Kubernetes and `docker --link` add variables for each service beside a container. For one that is
# called `petal` or `petal-…` they begin as the settings do. They are known by name and value.
_ADDRESS = r"(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9a-fA-F:]*:[0-9a-fA-F:.]+)"
_URL = rf"(?:tcp|udp|sctp)://(?:\[?{_ADDRESS}\]?|[\w.-]+):\d+(?:-\d+)?"
_PORT_NAME = r"_PORT_\d+_(?:TCP|UDP|SCTP)"
_SERVICE_VARIABLES = [
    (re.compile(name), re.compile(value))
    for name, value in (
        (r".*_SERVICE_HOST", _ADDRESS),
        (r".*_SERVICE_PORT(?:_[A-Z0-9_]+)?", r"\d+"),
        (r".*_PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_START|_END)?)?", _URL),
        (rf".*{_PORT_NAME}_PROTO", r"tcp|udp|sctp"),
        (rf".*{_PORT_NAME}_PORT(?:_START|_END)?", r"\d+"),
        (rf".*{_PORT_NAME}_ADDR", rf"{_ADDRESS}|[\w.-]+"),
        (r".*_NAME", r"(?:/[\w.-]+){2,}"),
        (r".*_ENV_\w+", r"(?s:.*)"),
    )
]


def variable(name: str) -> str:
    """The environment variable of the setting `name`."""
    return PREFIX + name.upper()


def is_of_a_service(name: str, value: str) -> bool:
    """Whether Kubernetes or Docker made the variable, and no person did."""
    return any(n.fullmatch(name) and v.fullmatch(value) for n, v in _SERVICE_VARIABLES)
