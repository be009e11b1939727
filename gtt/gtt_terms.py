"""What our GTT engine has to know of an instrument, from what the venue says of it. Pure."""

from decimal import Decimal

from gtt.gtt_state import AutoBand, Terms
from gtt.protect import AUTOMATIC, percent
from gtt.protect import TABLE as _TABLE
from market.instruments import Instrument


def terms_of(instrument: Instrument | None, trailing_share: Decimal) -> Terms:
    """`trailing_share`: the capability of the venue that takes the orders. An instrument that nobody knows has the
    terms of a share: its orders are checked once more before they leave."""
    if instrument is None:
        return Terms(trailing_share=trailing_share)
    edges = sorted({band.below for row in _TABLE.values() for band in row if band.below is not None})
    below_all = [*edges, None]
    bands = [
        AutoBand(below=below, percent=percent(instrument, edge, AUTOMATIC))
        for below, edge in zip(below_all, [Decimal(0), *edges], strict=True)
    ]
    tick = {"tick": Decimal(str(instrument.tick_size))} if instrument.tick_size > 0 else {}
    return Terms(
        **tick, lot=max(1, instrument.lot_size), freeze=instrument.freeze_quantity,
        auto=tuple(_merged(bands)), trailing_share=trailing_share,
    )  # fmt: skip


def _merged(bands: list[AutoBand]) -> list[AutoBand]:
    """Neighbours of the same percentage as one."""
    found: list[AutoBand] = []
    for band in bands:
        if found and found[-1].percent == band.percent:
            found[-1] = band
        else:
            found.append(band)
    return found
