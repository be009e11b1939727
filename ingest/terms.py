"""What a fold has to know of the instruments that a shard's feed carries (`terms:{k}`). Pure."""

from collections.abc import Collection, Iterable, Mapping

from market.instruments import Instrument, last_trade_ms
from schemas.errors import Misconfigured, Rejected
from schemas.terms import Terms, TermsKind


def of(instrument: Instrument, underlyings: Collection[str]) -> Terms | None:
    """None for what is no derivative and has none. `underlyings`: what derivatives are written on."""
    if instrument.expiry is None or instrument.underlying is None:
        spot = Terms(kind=TermsKind.SPOT, underlying=instrument.key, lot_size=instrument.lot_size)
        return spot if instrument.key in underlyings else None
    return Terms(
        kind=TermsKind.OPTION if instrument.is_option else TermsKind.FUTURE,
        underlying=instrument.underlying,
        expiry=instrument.expiry,
        last_trade_ms=_last_trade_ms(instrument),
        strike=instrument.strike,
        is_call=instrument.instrument_type == "CE" if instrument.is_option else None,
        lot_size=instrument.lot_size,
    )


def fields(instruments: Iterable[Instrument | None], underlyings: Collection[str]) -> Mapping[str, str]:
    """The hash `terms:{k}`."""
    told = ((each.key, of(each, underlyings)) for each in instruments if each is not None)
    return {key: terms.model_dump_json() for key, terms in told if terms is not None}


def _last_trade_ms(instrument: Instrument) -> int | None:
    """None where the calendar does not know the segment: then nobody knows how much time is left."""
    try:
        return last_trade_ms(instrument)
    except (Misconfigured, Rejected):
        return None
