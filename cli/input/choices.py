"""Categories, and those of them that a typed text finds."""

import unicodedata

LEFT_OUT = "(left out)"


class Choices:
    """Categories of which one is pointed at, and the text that was typed to find it."""

    def __init__(self, categories: tuple[str, ...], nullable: bool) -> None:
        self._all = [*categories, *([LEFT_OUT] if nullable else [])]
        self._nullable = nullable
        self._at = 0
        self.typed = ""

    @property
    def found(self) -> list[str]:
        """Those that contain the typed text; those that begin with it come first."""
        typed = _plain(self.typed)
        found = [text for text in self._all if typed in _plain(text)]
        return sorted(found, key=lambda text: not _plain(text).startswith(typed))

    @property
    def chosen(self) -> str | None:
        found = self.found
        return found[self._at % len(found)] if found else None

    @property
    def value(self) -> str | None:
        """The category, or None if the value is left out."""
        is_left_out = self._nullable and self.chosen == self._all[-1]
        return None if is_left_out else self.chosen

    def move(self, steps: int) -> None:
        self._at += steps

    def find(self, typed: str) -> None:
        self.typed, self._at = typed, 0


def _plain(text: str) -> str:
    """Without case and accents, so that `mu` finds `München`."""
    parts = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in parts if not unicodedata.combining(c))
