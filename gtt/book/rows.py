"""A fact and its number in the journal. Pure."""

from dataclasses import dataclass

from gtt.book.facts import Fact


@dataclass(frozen=True, slots=True)
class Numbered:
    n: int
    fact: Fact
