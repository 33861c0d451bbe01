"""Exit codes, and which error ends with which; the codes are those of sysexits.h."""

OK, USAGE, DATA, UNAVAILABLE, INTERNAL, TRY_AGAIN, CONFIG = 0, 2, 65, 69, 70, 75, 78
INTERRUPTED = 130

# By name, because importing the errors would import scikit-learn and the Kafka client.
CODES = {
    "model.card.InvalidFeatures": USAGE,
    "model.card.CardError": CONFIG,
    "model.artifact.ArtifactError": CONFIG,
    "model.predict.PredictError": DATA,
    "infra.config.ConfigError": CONFIG,
    "infra.broker.BrokerUnavailable": UNAVAILABLE,
    "infra.broker.TopicMismatch": CONFIG,
    "streams.schema.StoreError": CONFIG,
    "streams.client.Unavailable": UNAVAILABLE,
    "streams.client.Unknown": TRY_AGAIN,
    "streams.client.ResultTimeout": TRY_AGAIN,
    "streams.client.TooLarge": DATA,
    "streams.client.IdConflict": DATA,
    "cli.ways.Refused": DATA,
    "cli.ways.ServiceUnavailable": UNAVAILABLE,
    "cli.results.NotFound": 1,
}


def code_of(error: BaseException) -> int | None:
    """The exit code of an error that is ours, or None."""
    for kind in type(error).__mro__:
        if code := CODES.get(f"{kind.__module__}.{kind.__qualname__}"):
            return code
    return None


def sentence(error: BaseException) -> str:
    """What to tell a person: the error, and how to go on where there is a way."""
    task_id = getattr(error, "task_id", None)
    if type(error).__qualname__ == "ResultTimeout":
        return f"{error}; go on waiting with: petal wait {task_id}"
    return str(error)
