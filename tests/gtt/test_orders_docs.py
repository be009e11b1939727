"""What the guide says about an order's life is what the code does."""

from pathlib import Path

from gtt.book.orders_table import NEXT, WRITTEN_OFF, Happening
from schemas.orders import OrderStatus

DOCS = Path(__file__).parents[2] / "docs" / "orders.md"


def table() -> str:
    """One row a state; what happens, grouped by where that leads."""
    lines = ["| In | what happens | leads to |", "| --- | --- | --- |"]
    for state in [*OrderStatus, WRITTEN_OFF]:
        ways: dict[str, list[str]] = {}
        for happening in Happening:
            if (then := NEXT.get((state, happening))) is not None:
                ways.setdefault(then, []).append(happening.value)
        for then, what in ways.items():
            lines.append(f"| `{state}` | {', '.join(what)} | {'stays' if then == state else f'`{then}`'} |")
    return "\n".join(lines)


def test_the_table_of_the_guide_is_the_code_s() -> None:
    told = DOCS.read_text().partition("<!-- table -->\n")[2].partition("\n<!-- end of table -->")[0]
    assert told == table()
