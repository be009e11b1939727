"""A simulated exchange that speaks the venue's own protocols: OAuth, REST, protobuf over a websocket.

It is the other side of the wire and knows nothing of the workers. One process, one port:

    python -m sim                  # http://127.0.0.1:8765, always open, about 500 instruments

From the inside out:

    noise, black, fair, book       pure numbers: keyed randomness, option formulas, what things are worth, depth
    hours, terms, paths            when it trades, under which contract terms, and where its underlyings go
    universe, columns              what is listed on a day: by instrument, and as arrays
    candles, history, archive      minute candles: of the live day, of any day when asked for, of the days that are over
    auctions, market               the live day: one fold, `advance(to_ms)`, over all instruments at once
    orders, positions, order_body  what an order, a trade and a position are, and how they are asked for
    matching, phases, rules, margins
                                   who trades with whom, when, what is turned down, what is blocked
    floor, ledger, portfolio, trading
                                   where orders wait, what became of them, what the user has; all of it together
    snapshot, wire, status         the state of it as numbers, as bytes of the feed, as market phases
    auth, limits, subscriptions, faults, timeline
                                   who may do what, how often, for how many instruments, what fails on demand and when
    feed, portfolio_stream, order_door, *_api, login, replies
                                   the websockets, what every order write passes, and REST
    clock, exchange, server        the shell: time, everything as one object, one port

All randomness is a function of (seed, purpose, day or minute), so the same seed gives the same market.
"""
