"""GTTs at a venue whose position somebody else has closed: their stop would open a new one, so they are cancelled. What
the venue's own exits have just closed looks the same for a moment, until it tells how far its GTT has got. Pure.
"""

from typing import Final

from gtt.book.book import GttRecord, key_of
from gtt.desk import checking
from gtt.desk import gtts as desk_gtts
from gtt.desk.here import Here
from schemas.gtt import Gtt, Leg, RuleStatus
from schemas.orders import Product, Side

_SURE_MS: Final = 2_000
_EXIT_UNDER_WAY: Final = (RuleStatus.TRIGGERED, RuleStatus.OPEN)


def mind(here: Here) -> None:
    """Once a second."""
    alone = {
        record.state.gtt.gtt_order_id: record
        for record in here.book.live_gtts()
        if not record.ours and record.state.gtt.mode in here.venues and _guards_nothing(here, record)
    }
    for gtt_id in here.orphans.keys() - alone.keys():
        del here.orphans[gtt_id]
    for gtt_id, record in alone.items():
        gtt, since_ms = record.state.gtt, here.orphans.get(gtt_id)
        runtime = here.runtime[gtt.mode]
        if since_ms is None:
            here.orphans[gtt_id] = here.now_ms
            runtime.gtts_ts = here.now_ms
        elif here.now_ms - since_ms >= _SURE_MS and not runtime.reconciling and not runtime.asking_gtts:
            here.alert(f"{gtt.instrument}: nothing is left that {gtt_id} could guard: it is cancelled", gtt.mode)
            desk_gtts.cancelled(here, record, "its position is gone")
            del here.orphans[gtt_id]


def _guards_nothing(here: Here, record: GttRecord) -> bool:
    gtt = record.state.gtt
    if gtt.entered <= gtt.exited or record.asked is not None or record.call is not None:
        return False
    if (entry := gtt.rule(Leg.ENTRY)) is not None and entry.status is not RuleStatus.COMPLETED:
        return False
    if any(rule.status in _EXIT_UNDER_WAY for rule in gtt.rules if rule.strategy is not Leg.ENTRY):
        return False
    if gtt.product is not Product.INTRADAY and not _left_today(here, gtt):
        return False
    units = checking.units_of(here, gtt.mode, gtt.instrument, gtt.product)
    return units.net * gtt.transaction_type.sign <= 0


def _left_today(here: Here, gtt: Gtt) -> bool:
    """What is delivered is no position any more, and guarded all the same: it has to be seen that it was closed."""
    position = here.book.account(gtt.mode).positions.get(key_of(gtt.instrument, gtt.product))
    if position is None:
        return False
    return bool(position.sell_quantity if gtt.transaction_type is Side.BUY else position.buy_quantity)
