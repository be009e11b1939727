"""How facts change a GTT's record. The steps of its life are taken by the machines; here they are only kept. Pure."""

from typing import Any

from gtt.book import facts
from gtt.book.book import Book, Call, GttRecord, Intent
from gtt.book.facts import What
from gtt.book.touched import Touched


def accepted(book: Book, fact: facts.GttAccepted, done: list[Touched]) -> None:
    book.intents[fact.intent_id] = Intent(ts=fact.ts, gtt=fact.gtt_id)
    record = book.gtts[fact.gtt_id] = GttRecord(state=fact.state, command=fact.command)
    book.index_gtt(record)
    done.append(Touched("gtt", fact.gtt_id))


def changed(book: Book, fact: facts.GttChanged, done: list[Touched]) -> None:
    record = book.gtts.get(fact.gtt_id)
    if record is not None:
        record.state = fact.state
        book.index_gtt(record)
        done.append(Touched("gtt", fact.gtt_id))


def asked(book: Book, fact: facts.GttAsked, _: list[Touched]) -> None:
    record = book.gtts[fact.gtt_id]
    record.asked, record.request, record.not_before_ts = fact.what, fact.request, 0
    record.code = record.words = ""
    book.index_gtt(record)


def seen(book: Book, fact: facts.GttSeen, _: list[Touched]) -> None:
    book.gtts[fact.gtt_id].told = fact.told


def found(book: Book, fact: facts.Found, done: list[Touched]) -> None:
    _at_the_venue(book, fact.gtt_id, fact.venue_gtt_id, fact.ts)
    done.append(Touched("gtt", fact.gtt_id))


def call(book: Book, fact: Any, done: list[Touched]) -> None:
    record = book.gtts[fact.gtt_id]
    if isinstance(fact, facts.Sending):
        record.attempt = fact.attempt
        record.call = Call(what=fact.what, attempt=fact.attempt, sent_ts=fact.ts)
    elif isinstance(fact, facts.Lost):
        record.cancel_lost = record.cancel_lost or fact.what is What.CANCEL_GTT
        if record.call is not None:
            record.call = record.call.model_copy(update={"lost": True, "arrival_ts": fact.arrival_ts})
    elif isinstance(fact, facts.NotSent):
        record.call, record.not_before_ts = None, fact.again_ts
    elif isinstance(fact, facts.Denied):
        record.call, record.not_before_ts = None, fact.ts
    else:
        record.call = None
        if record.asked is fact.what:  # else something else was asked for meanwhile
            record.asked = record.request = None
        if isinstance(fact, facts.TurnedDown):
            record.code, record.words = fact.code, fact.words
        if isinstance(fact, facts.Answered) and fact.what is What.PLACE_GTT:
            _at_the_venue(book, fact.gtt_id, fact.venue_id, fact.ts)
    book.index_gtt(record)
    done.append(Touched("gtt", fact.gtt_id))


def _at_the_venue(book: Book, gtt_id: str, venue_gtt_id: str, ts: int) -> None:
    record = book.gtts[gtt_id]
    record.call, record.known_ts = None, ts
    if record.asked is What.PLACE_GTT:
        record.asked = record.request = None
    gtt = record.state.gtt.model_copy(update={"venue_gtt_order_id": venue_gtt_id, "ts": ts})
    record.state = record.state.model_copy(update={"gtt": gtt})
    book.index_gtt(record)
