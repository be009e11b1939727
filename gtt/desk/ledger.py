"""The book, and what has been decided about it and is not in the journal yet.

Deciding is synchronous and changes the book at once; `take` hands over what has gathered: facts to append, then effects
to let out, then touched things to publish. A process that dies in between has decided nothing. Pure.
"""

from collections import deque
from dataclasses import dataclass, field

from gtt.book.book import Book
from gtt.book.facts import Fact, GttChanged
from gtt.book.fold import apply
from gtt.book.rows import Numbered
from gtt.book.touched import Touched
from gtt.desk.effects import Effect


@dataclass(slots=True)
class Taken:
    rows: list[Numbered] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    touched: list[tuple[int, Touched]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.rows or self.effects or self.touched)


class Ledger:
    def __init__(self, book: Book) -> None:
        self.book = book
        self.reactions: deque[Touched] = deque()  # the desk has to look at these
        self._taken = Taken()

    def emit(self, fact: Fact) -> None:
        """It is so from now on."""
        n = self.book.n + 1
        touched = apply(self.book, n, fact)
        self._taken.rows.append(Numbered(n, fact))
        self._taken.touched += [(n, one) for one in touched]
        self.reactions.extend(touched)

    def tell_again(self, touched: Touched) -> None:
        """Nothing has changed, and somebody wants to hear it."""
        self._taken.touched.append((self.book.n, touched))

    def want(self, effect: Effect) -> None:
        self._taken.effects.append(effect)

    @property
    def waiting(self) -> int:
        """Facts that are not in the journal yet."""
        return len(self._taken.rows)

    def __bool__(self) -> bool:
        return bool(self._taken)

    def take(self) -> Taken:
        taken, self._taken = self._taken, Taken()
        taken.rows = _without_repetition(taken.rows)
        return taken


def _without_repetition(rows: list[Numbered]) -> list[Numbered]:
    """Of the steps that a GTT took in one go the journal keeps the last."""
    last = {row.fact.gtt_id: row.n for row in rows if isinstance(row.fact, GttChanged)}
    return [row for row in rows if not isinstance(row.fact, GttChanged) or last[row.fact.gtt_id] == row.n]
