from typing import Any
from tests.chaos.history import Observed
def render(said: dict[str, Any], seen: Observed) -> str:
    return ""
