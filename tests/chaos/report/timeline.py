"""The timeline of a run as inline SVG: rates on top, then faults, then processes."""

from collections import Counter
from collections.abc import Iterable, Iterator
from html import escape
from typing import NamedTuple

from tests.chaos.checks.behavior import API_FAULTS, BROKER_FAULTS, WORKER_FAULTS, repeats
from tests.chaos.checks.observed import Observed, Usage, events

WIDTH, LEFT, RIGHT = 1120, 96, 12
RATES, LANE, ROW = 120, 22, 22  # heights
LANES = 3  # of fault labels
TOP = 24
GRID, INK, SOFT = "#e3e8ec", "#22303c", "#5d6d7a"
SENT, ANSWERED, UNKNOWN, REPEAT = "#7f8c98", "#2878b5", "#d68910", "#8e44ad"
ALIVE = {"api": "#b7d7c2", "worker": "#a9cce3", "sink": "#f5d6a8"}
FAULT_COLORS = (
    (BROKER_FAULTS, "#c0392b"), (WORKER_FAULTS, "#2878b5"), (API_FAULTS, "#2e7d4f"),
)  # fmt: skip
OTHER_FAULTS = "#b9770e"
CHARACTER = 7.2  # about its width


class Scale(NamedTuple):
    """Maps monotonic nanoseconds to x coordinates."""

    begin: int
    end: int

    def x(self, t: int) -> float:
        share = (t - self.begin) / max(1, self.end - self.begin)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    @property
    def seconds(self) -> float:
        return (self.end - self.begin) / 1e9


def begin(seen: Observed) -> int:
    """The time of the first observation."""
    return min([e.t for e in seen.history] + [u.t for u in seen.usage], default=0)


def draw(seen: Observed) -> str:
    """The timeline as an SVG element."""
    scale = Scale(begin(seen), max((e.t for e in seen.history), default=1))
    names = sorted({u.proc for u in seen.usage})
    rows_top = TOP + RATES + 32 + LANES * LANE + 10
    height = rows_top + len(names) * ROW + 24
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {height}" xmlns="http://www.w3.org/2000/svg" '
        f'font-family="system-ui, sans-serif" font-size="11" fill="{INK}" role="img" '
        'aria-label="timeline of the run">',
        *_grid(scale, height),
        *_rates(seen, scale),
        *_marks(seen, scale),
        *_faults(seen, scale, TOP + RATES + 32, height - 22),
        *_processes(seen, scale, names, rows_top),
        "</svg>",
    ]
    return "".join(parts)


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{x}" y="{y}" {more}>{escape(text)}</text>'


def _grid(scale: Scale, height: int) -> Iterator[str]:
    step = next(s for s in (5, 10, 20, 30, 60, 120, 600) if scale.seconds / s <= 16 or s == 600)
    for second in range(0, int(scale.seconds) + 1, step):
        x = scale.x(scale.begin + second * 10**9)
        yield f'<line x1="{x}" x2="{x}" y1="{TOP}" y2="{height - 20}" stroke="{GRID}"/>'
        yield _text(x, height - 6, f"{second} s", f'text-anchor="middle" fill="{SOFT}"')


def _per_second(scale: Scale, times: Iterable[int]) -> list[int]:
    counts = Counter((t - scale.begin) // 10**9 for t in times)
    return [counts[second] for second in range(int(scale.seconds) + 1)]


def _rates(seen: Observed, scale: Scale) -> Iterator[str]:
    """Tasks sent and answers in `results`, per second."""
    sent = _per_second(scale, (e.t for e in events(seen, "submit", "invoke")))
    answered = _per_second(scale, (e.t for e in events(seen, "await", "ok") if e.proc == "c4"))
    # A flood would flatten all other rates.
    ordinary = sorted(sent + answered)
    most = max(10, ordinary[int(len(ordinary) * 0.98)])
    for label, counts, color, x in (
        ("tasks sent/s", sent, SENT, LEFT),
        ("answers/s", answered, ANSWERED, LEFT + 95),
    ):
        points = " ".join(
            f"{scale.x(scale.begin + n * 10**9)},{_height(count, most):.1f}"
            for n, count in enumerate(counts)
        )
        yield f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="1.6"/>'
        yield _text(x, TOP - 10, label, f'fill="{color}" font-weight="600"')
    for value in (0, most):
        y = _height(value, most)
        yield _text(LEFT - 8, y + 4, str(value), f'text-anchor="end" fill="{SOFT}"')
        yield f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}" stroke="{GRID}"/>'


def _height(count: int, most: int) -> float:
    return TOP + RATES * (1 - min(1.0, count / most))


def _marks(seen: Observed, scale: Scale) -> Iterator[str]:
    """Ticks below the rates: tasks with an unknown outcome, and repeated answers."""
    unknown = [e.t for e in events(seen, "submit", "info")]
    repeated = [repeat.t for _, repeat in repeats(seen)]
    rows = (("unknown", unknown, UNKNOWN, 4), ("repeated", repeated, REPEAT, 17))
    for label, times, color, below in rows:
        y = TOP + RATES + below
        yield _text(LEFT - 8, y + 8, label, f'text-anchor="end" fill="{color}"')
        for x in sorted({scale.x(t) for t in times}):
            yield f'<rect x="{x - 0.75}" y="{y}" width="1.5" height="8" fill="{color}"/>'


def _color(name: str) -> str:
    return next((color for names, color in FAULT_COLORS if name in names), OTHER_FAULTS)


def _faults(seen: Observed, scale: Scale, top: float, bottom: float) -> Iterator[str]:
    """A band for each fault across the rows below, and its name in a free lane."""
    starts = {e.id: e.t for e in events(seen, "fault", "invoke")}
    free = [0.0] * LANES  # the x from which each lane is empty
    yield _text(LEFT - 8, top + 14, "faults", f'text-anchor="end" fill="{SOFT}"')
    for event in events(seen, "fault", "ok", "info"):
        name = event.id.rpartition(" ")[2]
        x, end = scale.x(starts[event.id]), scale.x(event.t)
        lane = min(range(LANES), key=lambda n, x=x: max(x, free[n]))  # type: ignore[misc]
        y = top + lane * LANE
        label = name + ("" if event.type == "ok" else " (no effect)")
        text_x = min(x + 4, WIDTH - RIGHT - CHARACTER * len(label))
        free[lane] = max(end, text_x + CHARACTER * len(label))
        box = f'<rect x="{x}" y="{y}" width="{max(2.0, end - x):.1f}" fill="{_color(name)}" '
        yield f'{box} height="{bottom - y}" opacity=".07"/>'
        yield f'{box} height="18" rx="3" opacity=".25"/>'
        yield _text(text_x, y + 13, label, f'fill="{_color(name)}" font-weight="600"')


def _processes(seen: Observed, scale: Scale, names: list[str], top: float) -> Iterator[str]:
    """A row for each supervised place, with a bar for each process that ran in it."""
    processes: dict[tuple[str, int], list[Usage]] = {}
    for usage in seen.usage:
        processes.setdefault((usage.proc, usage.pid), []).append(usage)
    ends = {pid: e for e in events(seen, "exit") for pid in e.pids}
    for n, name in enumerate(names):
        y = top + n * ROW
        yield _text(LEFT - 8, y + 14, name, 'text-anchor="end"')
        for (proc, pid), usages in processes.items():
            if proc != name:
                continue
            x = scale.x(usages[0].t)
            exited = ends.get(pid)
            end = scale.x(exited.t if exited else usages[-1].t)
            color = ALIVE[name.split()[0]]
            title = f"{name}, process {pid}, {max(u.rss for u in usages) >> 20} MiB at most"
            title += f", {exited.detail}" if exited else ""
            yield (
                f'<rect x="{x}" y="{y + 3}" width="{max(2.0, end - x):.1f}" height="{ROW - 7}" '
                f'rx="3" fill="{color}"><title>{escape(title)}</title></rect>'
            )
            if exited and exited.type != "ok":
                yield f'<circle cx="{end}" cy="{y + ROW / 2 - 0.5}" r="4.5" fill="#c0392b"/>'
