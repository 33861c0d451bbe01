"""How far a run is: a bar on a terminal, and the summary at its end."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from cli import output
from model.values.ranges import MAX_WARNINGS, Unlike, further_sentence


class Notices(NamedTuple):
    """Values unlike the training data, by feature; `first` is the number of a `unit`."""

    unlike: Sequence[Unlike]
    unit: str

    def sentences(self) -> list[str]:
        """For people; a table may have thousands of columns."""
        shown = [self._sentence(each) for each in self.unlike[:MAX_WARNINGS]]
        further = len(self.unlike) - len(shown)
        return [*shown, further_sentence(further)] if further else shown

    def documents(self) -> list[dict[str, Any]]:
        """For programs."""
        return [
            {
                "feature": each.feature, "code": each.code, "line": each.first,
                "count": each.hits, "message": self._sentence(each),
            }
            for each in self.unlike
        ]  # fmt: skip

    def _sentence(self, each: Unlike) -> str:
        return each.sentence(f"{self.unit} {each.first:,}")


class Summary(NamedTuple):
    """The end of a run. `bad` counts rows by code, `rows` all, also of the runs it continued."""

    rows: int
    bad: Mapping[str, int]
    rows_here: int
    seconds: float
    notices: Notices

    @property
    def rate(self) -> float:
        """Rows per second of this run."""
        return self.rows_here / self.seconds if self.seconds else 0.0

    def sentence(self) -> str:
        """For people."""
        text = f"{_counted(self.rows, 'row')}"
        if self.rows_here != self.rows:
            text += f", {self.rows_here:,} of them now,"
        text += f" in {self.seconds:.1f} s ({self.rate:,.0f} rows/s)"
        if not self.bad:
            return text
        most_first = sorted(self.bad.items(), key=lambda item: -item[1])
        codes = ", ".join(f"{count:,} {code}" for code, count in most_first)
        return f"{text}; {_counted(sum(self.bad.values()), 'bad row')}: {codes}"

    def document(self) -> dict[str, Any]:
        """For programs."""
        return {
            "rows": self.rows, "bad_rows": sum(self.bad.values()), "bad": dict(self.bad),
            "rows_now": self.rows_here, "seconds": round(self.seconds, 3),
            "warnings": self.notices.documents(),
        }  # fmt: skip


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


class Progress:
    """Shows rows, rate and time left by the bytes that are read."""

    def __init__(self, bar: Any, rows: int, total: int | None) -> None:
        self._bar, self._rows_before, self._total = bar, rows, total
        self._start = time.monotonic()
        self._first = 0
        self._line = bar.add_task("", total=total, rows="", left="")

    def show(self, rows: int, read: int) -> None:
        """Update the bar; so many bytes of the file are read."""
        seconds = time.monotonic() - self._start
        here = rows - self._rows_before
        self._first = self._first or read
        left, total = "", self._total
        if total and read > self._first:
            left = f"{_clock(seconds * (total - read) / (read - self._first))} left"
        shown = f"{rows:,} rows  {here / seconds:,.0f}/s" if seconds else f"{rows:,} rows"
        self._bar.update(self._line, completed=read, rows=shown, left=left)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextmanager
def progress(rows: int, total: int | None) -> Iterator[Progress]:
    """A progress bar on stderr if that is a terminal; `rows` are written already."""
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn
    from rich.progress import Progress as Bar

    terminal = output.console(stderr=True)
    columns = (
        BarColumn(bar_width=30),
        TaskProgressColumn(),
        TextColumn("{task.fields[rows]}", markup=False),
        TextColumn("{task.fields[left]}", markup=False),
    )
    with Bar(*columns, console=terminal, transient=True, disable=not terminal.is_terminal) as bar:
        yield Progress(bar, rows, total)
