"""The logs of which a projection holds rows. A log's number is part of the position of its rows.

A log has the name of its id (`infra.broker.log_id`). On a broker that gives topics no ids, another
log may have the same id; the later ones have `#2`, `#3` and so on behind it.
"""

import sqlite3

NEWEST = """
SELECT cluster FROM log WHERE cluster IN (:log, :cluster)
  OR substr(cluster, 1, length(:log) + 1) IN (:log || '#', :log || '/')
ORDER BY id DESC LIMIT 1
"""


def newest(db: sqlite3.Connection, log: str) -> str | None:
    """The name of the newest log with this id, or None.

    Its row may have the cluster's id alone, from a time when that was the id of a log.
    """
    names = {"log": log, "cluster": log.partition("/")[0]}
    found = db.execute(NEWEST, names).fetchone()
    return None if found is None else str(found[0])


def further(db: sqlite3.Connection, log: str) -> str:
    """The name of a further log with this id."""
    name = newest(db, log)
    if name is None:
        return log
    return f"{log}#{int(name.partition('#')[2] or 1) + 1}"


def number_of(db: sqlite3.Connection, name: str) -> int | None:
    found = db.execute("SELECT id FROM log WHERE cluster = ?", (name,)).fetchone()
    return None if found is None else int(found[0])


def enter(db: sqlite3.Connection, name: str) -> int:
    """The number of a log, which gets one if it has none."""
    number = number_of(db, name)
    if number is None:
        db.execute("INSERT INTO log(cluster) VALUES (?)", (name,))
        return int(db.execute("SELECT last_insert_rowid()").fetchone()[0])
    return number


def enter_newest(db: sqlite3.Connection, log: str) -> tuple[int, str]:
    """Number and name of the newest log with this id, which is entered if there is none."""
    name = newest(db, log) or log
    if log.startswith(name + "/"):
        db.execute("UPDATE log SET cluster = ? WHERE cluster = ?", (log, name))
        name = log
    return enter(db, name), name
