"""Values of a file that are unlike those of the training data. They are predicted all the same."""

from collections.abc import Iterable, Mapping

from cli.bulk.block import Block
from model.values.ranges import Ranges, Unlike


def examined(block: Block, ranges: Ranges) -> Block:
    """The block with the values of its valid rows that are unlike the training data."""
    found = ranges.count(block.X) if len(block.X) else []
    if not found:
        return block
    numbers = [number for n, number in enumerate(block.numbers) if n not in block.faults]
    return block._replace(unlike=[each._replace(first=numbers[each.first]) for each in found])


def added(total: Mapping[str, Unlike], found: Iterable[Unlike]) -> dict[str, Unlike]:
    """The values of a file by feature, after those of its next block."""
    result = dict(total)
    for new in found:
        old = result.get(new.feature)
        result[new.feature] = old._replace(hits=old.hits + new.hits) if old else new
    return result
