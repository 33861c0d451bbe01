"""report.html: a page for people that loads nothing from elsewhere."""

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from tests.chaos.checks.observed import Observed, events
from tests.chaos.report import timeline

MAX_LINES = 20  # for each anomaly
COLORS = {"valid": "#2e7d4f", "anomaly": "#c0392b", "vacuous": "#b9770e"}
TEXTS = {
    "valid": "The pipeline kept every guarantee under these faults.",
    "anomaly": "The pipeline violated a guarantee.",
    "vacuous": "There is no anomaly, but the run did too little to prove anything.",
}
COUNTS = {
    "attempts": "tasks sent", "acked": "accepted", "unknown": "outcome unknown",
    "refused": "refused", "answers": "answers seen by clients", "unanswered": "never answered",
    "poison": "unreadable records sent", "letters": "dead letters",
    "conflicts": "id conflicts in the database", "refused_conflicts": "id conflicts refused (409)",
    "faults": "faults", "own_restarts": "exits with a restart request", "tasks": "records in tasks",
    "results": "records in results", "duplicates": "repeated results", "rows": "rows in SQLite",
    "handovers": "partition handovers", "several_batches": "chunks of several batches",
    "mixed_chunks": "chunks with results and dead letters",
    "backlog_chunks": "full chunks of a backlog",
    "several_partitions": "fetches of several partitions",
    "refused_after_accepted": "refused batches of partly accepted chunks",
    "unread": "results deleted unread", "met_chunk": "faults with a chunk in flight",
    "met_commit": "faults with a commit pending", "met_rebalance": "faults amid a rebalance",
}  # fmt: skip
SITUATIONS = ("fault", "struck", "chunk in flight", "commit pending", "rebalance")
STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #22303c; background: #fafbfc;
  max-width: 1180px; margin: 2rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.05rem; margin: 2rem 0 .6rem; }
header { display: flex; align-items: center; gap: 1rem; }
.word { color: #fff; border-radius: 6px; padding: .15rem .7rem; font-weight: 600; }
.sub { color: #5d6d7a; margin: .3rem 0 0; }
.card { background: #fff; border: 1px solid #e3e8ec; border-radius: 8px; padding: 1rem; }
.counts { display: grid; grid-template-columns: repeat(auto-fill, minmax(158px, 1fr)); gap: .6rem; }
.counts div { background: #fff; border: 1px solid #e3e8ec; border-radius: 8px;
  padding: .5rem .8rem; color: #5d6d7a; font-size: .82rem; line-height: 1.3; }
.counts b { display: block; font-size: 1.25rem; color: #22303c; font-weight: 600; }
table { border-collapse: collapse; width: 100%; background: #fff; font-size: .88rem; }
th, td { text-align: left; padding: .35rem .7rem; border-bottom: 1px solid #e3e8ec; }
th { color: #5d6d7a; font-weight: 500; } td.n { text-align: right; }
code, pre { font: .85rem/1.5 ui-monospace, monospace; }
pre { background: #fff; border: 1px solid #e3e8ec; border-radius: 8px; padding: .8rem 1rem;
  overflow-x: auto; margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; }
.bad { border-left: 4px solid #c0392b; } .bad h3 { margin: 0 0 .4rem; font-size: 1rem; }
.bad + .bad { margin-top: .6rem; }
svg { display: block; width: 100%; height: auto; }
"""


def render(content: Mapping[str, Any], seen: Observed) -> str:
    """The page of a report; `content` is `report.facts`."""
    word = content["verdict"]
    parts = [
        f"<header><h1>Chaos run, seed {content['seed']}, {escape(content['broker'])}</h1>",
        f'<span class="word" style="background:{COLORS[word]}">{word}</span></header>',
        f'<p class="sub">{TEXTS[word]}</p>',
        *_problems(content),
        "<h2>Timeline</h2>",
        f'<div class="card">{timeline.draw(seen)}</div>',
        f'<h2>Counts</h2><div class="counts">{"".join(_counts(content["counts"]))}</div>',
        f"<h2>Faults</h2>{_table(('time', 'fault', 'duration', 'effect'), _faults(seen))}",
        f"<h2>Situations</h2>{_table(SITUATIONS, _met(content['met']))}",
        f"<h2>How to reproduce</h2><pre>{escape(content['command'])}</pre>",
        '<p class="sub">The seed determines the tasks and the order of the faults, but not the '
        "timing of the processes. This folder also has report.json, history.jsonl and every "
        "log.</p>",
    ]
    title = f"Chaos run, seed {content['seed']}: {word}"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style><body>{''.join(parts)}</body></html>\n"
    )


def _problems(content: Mapping[str, Any]) -> Iterable[str]:
    if content["anomalies"]:
        yield "<h2>Anomalies</h2>"
    for name, of in content["anomalies"]:
        lines = "\n".join(
            of[:MAX_LINES] + [f"and {len(of) - MAX_LINES} more"] * (len(of) > MAX_LINES)
        )
        yield f'<div class="card bad"><h3>{name} ({len(of)})</h3><pre>{escape(lines)}</pre></div>'
    if content["vacuous"]:
        missed = escape("\n".join(content["vacuous"]))
        yield f"<h2>Why the run is vacuous</h2><pre>{missed}</pre>"


def _counts(counts: Mapping[str, int]) -> Iterable[str]:
    for name, count in counts.items():
        yield f"<div><b>{count:,}</b>{COUNTS[name]}</div>"


def _faults(seen: Observed) -> Iterable[tuple[str, ...]]:
    begin = timeline.begin(seen)
    starts = {e.id: e.t for e in events(seen, "fault", "invoke")}
    for e in events(seen, "fault", "ok", "info"):
        start = starts[e.id]
        effect = "seen" if e.type == "ok" else "NOT SEEN"
        yield (
            f"{(start - begin) / 1e9:.1f} s", e.id.rpartition(" ")[2],
            f"{(e.t - start) / 1e9:.1f} s", effect,
        )  # fmt: skip


def _met(met: Mapping[str, Mapping[str, int]]) -> Iterable[tuple[str, ...]]:
    for name, counts in met.items():
        yield name, *map(str, counts.values())


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    header = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    return f"<table><tr>{header}</tr>{body}</table>"
