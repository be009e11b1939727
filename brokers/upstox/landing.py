"""The page at which a login ends: what happened, and what to do next. Pure. It never holds a token."""

from datetime import UTC, datetime, timedelta
from html import escape
from typing import Final

from brokers.upstox.login import LoggedIn

_IST: Final = timedelta(hours=5, minutes=30)

#: The page has no script, no style and no form of its own, and leaves no trace elsewhere.
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def until(expires_ms: int | None) -> str:
    """`21 Nov 03:30 IST`."""
    if expires_ms is None:
        return "03:30 IST"
    return f"{datetime.fromtimestamp(expires_ms / 1000, UTC) + _IST:%d %b %H:%M} IST"


def sentence(found: LoggedIn) -> str:
    who = f"{found.name} ({found.user})" if found.name and found.user else found.user or found.name or "you"
    return f"Logged in as {who}, until {until(found.expires_ms)}. Workers take up the new token by themselves."


def page(title: str, text: str, again: str = "") -> str:
    """`again`: where another login begins."""
    link = f'<p><a href="{escape(again)}">Log in again</a></p>' if again else ""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title></head>"
        f"<body><h1>{escape(title)}</h1><p>{escape(text)}</p>{link}</body></html>\n"
    )
