"""A simulated exchange that speaks the venue's own protocols: OAuth, REST, protobuf over a websocket.

It is the other side of the wire and knows nothing of the workers. One process, one port:

    python -m sim                  # http://127.0.0.1:8765, always open, about 500 instruments

From the inside out:

    noise, black, book, quoting    pure numbers: keyed randomness, option formulas, depth, bids and asks
    universe, hours, paths         what is listed, when it trades, and where its underlyings go: functions of a seed
    history                        the minutes of any day, generated when asked for
    market                         the live day: one fold, `advance(to_ms)`, over all instruments at once
    candles                        minute candles of the very trades the market made
    wire, subscriptions, feed      the websocket
    auth, limits, rest             the rest
    clock, server                  the shell: time, one port, start and stop
"""
