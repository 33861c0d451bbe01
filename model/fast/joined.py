"""All trees of a model as one tree, so that one call finds the leaves of all trees.

An extra column, after the features, has the number of the tree. The joined tree begins with a
binary search for that number, and goes on with the nodes of that tree. A call for each tree costs
3 us, whatever the number of rows; the search costs some nanoseconds for each tree and row.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]


class Fields(NamedTuple):
    """The names of a node's fields. A leaf has no positive number as its left child."""

    left: str
    right: str
    feature: str
    threshold: str


def join(trees: Sequence[Array], fields: Fields, features: int) -> Array:
    """The nodes of the joined tree, from the nodes of at least one tree."""
    searching = len(trees) - 1
    nodes = np.concatenate([np.zeros(searching, trees[0].dtype), *trees])
    lengths = [len(tree) for tree in trees]
    roots = searching + np.cumsum([0, *lengths[:-1]])
    shift = np.repeat(roots, lengths) * (nodes[searching:][fields.left] > 0)
    for child in (fields.left, fields.right):
        nodes[searching:][child] += shift.astype(nodes.dtype[child])
    _write_search(nodes, fields, features, roots)
    return nodes


def _write_search(nodes: Array, fields: Fields, features: int, roots: Array) -> None:
    """Write the nodes of the binary search for a tree to the begin of `nodes`."""
    waiting = [(0, 0, len(roots))] if len(roots) > 1 else []
    written = 1
    while waiting:
        node, start, end = waiting.pop()
        middle = (start + end) // 2
        nodes[fields.feature][node], nodes[fields.threshold][node] = features, middle - 0.5
        for child, (low, high) in (
            (fields.left, (start, middle)),
            (fields.right, (middle, end)),
        ):
            if high - low == 1:
                nodes[child][node] = roots[low]
                continue
            nodes[child][node] = written
            waiting.append((written, low, high))
            written += 1


def rows_for(X: Array, trees: int) -> Array:
    """Each row of `X` for each tree, tree by tree, with the tree's number in the last column."""
    rows, features = X.shape
    table = np.empty((trees, rows, features + 1), dtype=X.dtype)
    table[:, :, :features] = X
    table[:, :, features] = np.arange(trees)[:, None]
    return table.reshape(trees * rows, features + 1)


def add_up(values: Array) -> Array:
    """The sums over the first axis, each added in its order; `values` is contiguous.

    numpy adds numbers that lie side by side in another order.
    """
    if values[0].size == 1:
        return np.asarray(np.add.accumulate(values, axis=0)[-1])
    return np.asarray(
        np.add.reduce(values, axis=0, initial=0.0)
    )  # as a sum begins that is added to
