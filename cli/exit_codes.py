"""Exit codes, and which error ends with which; the codes are those of sysexits.h."""

OK, USAGE, DATA, UNAVAILABLE, INTERNAL, TRY_AGAIN, CONFIG = 0, 2, 65, 69, 70, 75, 78
INTERRUPTED = 130

# By name, because importing the errors would import scikit-learn and the Kafka client.
CODES = {
    "model.errors.InvalidRow": USAGE,
    "model.errors.CardError": CONFIG,
    "model.errors.ArtifactError": CONFIG,
    "model.errors.PredictError": DATA,
    "infra.errors.ConfigError": CONFIG,
    "infra.errors.BrokerUnavailable": UNAVAILABLE,
    "infra.errors.TopicMismatch": CONFIG,
    "streams.errors.StoreError": CONFIG,
    "streams.errors.PipelineUnavailable": UNAVAILABLE,
    "streams.errors.UnknownOutcome": TRY_AGAIN,
    "streams.errors.ResultTimeout": TRY_AGAIN,
    "streams.errors.TaskTooLarge": DATA,
    "streams.errors.IdConflict": DATA,
    "cli.backends.Refused": DATA,
    "cli.backends.ServiceUnavailable": UNAVAILABLE,
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
