"""Errors of the settings and the broker. `str()` is a sentence for people."""


class ConfigError(Exception):
    """A setting in the environment cannot be used."""


class BrokerUnavailable(Exception):
    """No broker answered within the deadline."""


class TopicMismatch(Exception):
    """A topic exists with another partition count, or cannot be created as the settings want."""


class AccessRefused(ConfigError):
    """The broker, or its token endpoint, refuses the settings or the rights of this process."""
