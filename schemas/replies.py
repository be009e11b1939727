"""What the order worker decided about a command: `data` of its event of kind `reply`, and what REST tells."""

from typing import Final

from pydantic import BaseModel, ConfigDict

from schemas.accounts import StrategyState
from schemas.gtt import Gtt
from schemas.orders import Order, Position

#: `rule` where a command names an order or a GTT that there is not.
UNKNOWN_ID: Final = "unknown id"


class Decision(BaseModel):
    """Whatever the command was, the same shape: what it made or changed, each as it stands now.

    `ok` is false where our checks or the venue refused: `rule` is which check (or the venue's code), `reason` is in
    plain words. An order whose fate is not known yet is `ok`, with the status `unknown`.
    """

    model_config = ConfigDict(frozen=True)

    command: str
    ok: bool
    rule: str = ""
    reason: str = ""
    orders: tuple[Order, ...] = ()
    gtts: tuple[Gtt, ...] = ()
    positions: tuple[Position, ...] = ()  # those that are being closed
    strategy: StrategyState | None = None
