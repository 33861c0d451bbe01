"""What can be wrong with the settings or the broker. `str()` is a sentence for people."""


class ConfigError(Exception):
    """A setting in the environment cannot be used."""


class BrokerUnavailable(Exception):
    """No broker answered within the deadline."""


class TopicMismatch(Exception):
    """A topic exists with another partition count than the settings ask for."""
