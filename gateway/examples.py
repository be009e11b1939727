"""What answers about trading look like, for OpenAPI. Pure."""

from typing import Any, Final

Row = dict[str, Any]

COMMAND: Final = "0190f1c2a7b37c3e9f2d5a6b7c8d9e0f"
_TS: Final = 1795578300131
CHARGES: Final[Row] = {
    "brokerage": 20.0, "stt": 0.0, "transaction": 2.5, "ipft": 0.0, "sebi": 0.01, "stamp": 0.21, "gst": 4.05, "dp": 0.0,
    "total": 26.77,
}  # fmt: skip
PLACE: Final[Row] = {
    "instrument_token": "NSE_FO|61755",
    "transaction_type": "BUY",
    "quantity": 75,
    "product": "I",
    "order_type": "LIMIT",
    "price": 101.5,
}
ORDER: Final[Row] = {
    "order_id": "tj4k2m8x0q1v7b9c3d5f",
    "venue_order_id": "260105000000101",
    "gtt_id": "",
    "intent_id": f"command:{COMMAND}",
    "instrument": "NSE_FO|61755",
    "side": "BUY",
    "quantity": 75,
    "filled_quantity": 75,
    "average_price": 101.45,
    "price": 101.5,
    "trigger_price": 0.0,
    "order_type": "LIMIT",
    "product": "I",
    "validity": "DAY",
    "status": "complete",
    "pending": "",
    "reason": "",
    "mode": "paper",
    "strategy": "",
    "venue": "paper",
    "charges": CHARGES,
    "created_ts": _TS - 6,
    "ts": _TS,
}
HISTORY: Final[list[Row]] = [
    {"n": 17, "ts": _TS - 6, "account": "paper", "kind": "approved", "checks": [{"rule": "lot", "verdict": "pass"}]},
    {"n": 18, "ts": _TS - 6, "account": "paper", "kind": "sending", "what": "place", "attempt": 1},
    {"n": 19, "ts": _TS - 2, "account": "paper", "kind": "answered", "what": "place", "venue_id": "260105000000101"},
]
FILL: Final[Row] = {
    "fill_id": "tj4k2m8x0q1v7b9c3d5f:11000001",
    "trade_id": "11000001",
    "order_id": "tj4k2m8x0q1v7b9c3d5f",
    "venue_order_id": "260105000000101",
    "gtt_id": "",
    "instrument": "NSE_FO|61755",
    "side": "BUY",
    "quantity": 75,
    "price": 101.45,
    "product": "I",
    "charges": CHARGES,
    "mode": "paper",
    "strategy": "",
    "venue": "paper",
    "ts": _TS,
}
POSITION: Final[Row] = {
    "instrument": "NSE_FO|61755",
    "product": "I",
    "mode": "paper",
    "venue": "paper",
    "quantity": 75,
    "average_price": 101.45,
    "buy_quantity": 75,
    "buy_value": 7608.75,
    "sell_quantity": 0,
    "sell_value": 0.0,
    "last_price": 103.2,
    "realised": 0.0,
    "unrealised": 131.25,
    "charges": 26.77,
    "strategies": {"": 75},
    "ts": _TS,
}
RULES: Final[list[Row]] = [
    {"strategy": "ENTRY", "trigger_type": "ABOVE", "trigger_price": 200},
    {"strategy": "TARGET", "trigger_type": "IMMEDIATE", "trigger_price": 220},
    {"strategy": "STOPLOSS", "trigger_type": "IMMEDIATE", "trigger_price": 190, "trailing_gap": 5},
]
GTT_BODY: Final[Row] = {
    "type": "MULTIPLE",
    "quantity": 25,
    "product": "I",
    "rules": RULES,
    "instrument_token": "NSE_FO|61755",
    "transaction_type": "BUY",
}
GTT: Final[Row] = {
    "gtt_order_id": "GTT-tj4k2m8x0q1v7b9c3d5f",
    "venue_gtt_order_id": "",
    "type": "MULTIPLE",
    "exchange": "NSE_FO",
    "quantity": 25,
    "product": "I",
    "trading_symbol": "NIFTY 24000 CE 26 NOV 26",
    "instrument_token": "NSE_FO|61755",
    "instrument": "NSE_FO|61755",
    "transaction_type": "BUY",
    "created_at": _TS * 1000,
    "expires_at": 1795618799000000,
    "rules": [
        {**rule, "status": status, "transaction_type": side, "message": "", "order_id": None}
        for rule, status, side in zip(
            RULES, ("SCHEDULED", "INACTIVE", "INACTIVE"), ("BUY", "SELL", "SELL"), strict=True
        )
    ],
    "intent_id": f"command:{COMMAND}",
    "mode": "paper",
    "engine": "ours",
    "strategy": "",
    "entered": 0,
    "exited": 0,
    "live": True,
    "note": "our engine watches: paper has no GTT",
    "ts": _TS,
}
HOLDING: Final[Row] = {
    "instrument": "NSE_EQ|INE002A01018",
    "isin": "INE002A01018",
    "quantity": 10,
    "average_price": 1412.5,
    "last_price": 1488.9,
    "mode": "live",
    "pnl": 764.0,
}
FUNDS: Final[Row] = {"available": 992_391.25, "used": 7_608.75, "ts": _TS, "mode": "paper", "venue": "paper"}
STRATEGY: Final[Row] = {
    "strategy": "ema_cross",
    "mode": "live",
    "effective": "paper",
    "why": "TEJI_MODE is paper",
    "last_signal_ts": _TS,
    "signals": 3,
    "ts": _TS,
}
HALT: Final[Row] = {"why": "news", "by": "api:127.0.0.1", "ts": _TS}
SIGNAL: Final[Row] = {
    "id": "ema_cross-61755-1795578300000",
    "strategy": "ema_cross",
    "instrument": "NSE_FO|61755",
    "ts": 1795578300000,
    "side": "BUY",
    "price": 101.5,
    "stop_loss": 96.0,
    "take_profit": 112.0,
    "reason": "fast above slow",
}


def told(value: Any) -> dict[int | str, dict[str, Any]]:
    """The response 200 of a route, by its example."""
    return {200: {"content": {"application/json": {"example": value}}}}
