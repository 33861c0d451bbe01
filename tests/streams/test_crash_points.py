"""A kill at every point of worker and sink loses nothing and doubles no row.

Deterministic, and slow: run by `make crash-points`, not by `make test`.
"""

from collections import Counter

import pytest

from infra.topics import RESULTS
from model.artifact import Loaded
from streams.projection.reader import Reader
from tests.failpoint import SINK_POINTS, WORKER_POINTS
from tests.processes import Pipeline, wait_until
from tests.streams.test_pipeline import (
    expected_labels,
    labels_of,
    publish,
    read_rows,
    read_topic,
    rows_for,
    settings_of,
    wait_for_rows,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
TASKS = 200
PASSAGES = [1, 3, 9]
# A kill repeats at most the answers since the last commit. While the broker does not have the
# answers of a chunk, only earlier chunks can repeat.
CHUNK = 10


@pytest.mark.parametrize("passages", PASSAGES)
@pytest.mark.parametrize("point", [*WORKER_POINTS, *SINK_POINTS])
def test_a_kill_at_this_point_loses_nothing(
    pipeline: Pipeline, loaded: Loaded, point: str, passages: int
) -> None:
    pipeline.env["PETAL_CHUNK_RECORDS"] = str(CHUNK)
    settings = settings_of(pipeline)
    asked = publish(settings, rows_for(TASKS))
    app = "streams.worker" if point in WORKER_POINTS else "streams.sink"
    doomed = pipeline.start("python", "-m", "tests.failpoint", f"{point}:{passages}", app)
    if app == "streams.sink":
        pipeline.worker(ready=False)

    def killed() -> bool:
        # A sink that finds much at once makes few transactions; the last ones need more tasks.
        if doomed.exit_code is None and point in SINK_POINTS:
            asked.update(publish(settings, rows_for(CHUNK)))
        return doomed.exit_code is not None

    wait_until(killed, 60, "the kill")
    assert doomed.exit_code == -9, doomed.output[-2000:]
    if app == "streams.worker":
        pipeline.worker(ready=False)
    pipeline.sink(ready=False)
    wait_for_rows(settings, len(asked))
    rows = read_rows(settings)
    assert labels_of(rows) == expected_labels(loaded, asked)
    assert len(rows) == len(asked)
    results = Counter(record.key.decode() for record in read_topic(settings, RESULTS))
    assert set(results) == set(asked)
    repeated = results.total() - len(asked)
    assert repeated == 0 if app == "streams.sink" else repeated <= passages * CHUNK
    with Reader(settings.database) as reader:
        wait_until(lambda: reader.audit().records == results.total(), 20, "the last records")
        assert reader.audit().consistent
        assert reader.audit().duplicates == repeated
