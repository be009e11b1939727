-- The registry of instruments, and the one-minute bars.
--
-- `id` is schemas.streams.instrument_id(key): the same number in tick records, in Redis and here.
CREATE TABLE instruments (
    id bigint PRIMARY KEY,
    key text NOT NULL UNIQUE,
    segment text NOT NULL,
    exchange text NOT NULL,
    trading_symbol text NOT NULL,
    details jsonb NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE bars (
    instrument_id bigint NOT NULL,
    ts bigint NOT NULL, -- start of the minute, epoch ms
    open double precision NOT NULL,
    high double precision NOT NULL,
    low double precision NOT NULL,
    close double precision NOT NULL,
    volume bigint NOT NULL,
    oi double precision,
    oi_diff double precision,
    vwap double precision,
    iv double precision,
    delta double precision,
    gamma double precision,
    theta double precision,
    vega double precision,
    rho double precision,
    bid_wall_price double precision,
    bid_wall_qty bigint,
    ask_wall_price double precision,
    ask_wall_qty bigint,
    tbq double precision,
    tsq double precision,
    ticks integer NOT NULL,
    source text NOT NULL,
    complete boolean NOT NULL,
    rev integer NOT NULL,
    PRIMARY KEY (instrument_id, ts)
);

CREATE TABLE events (
    id text PRIMARY KEY, -- the stream entry's id
    ts bigint NOT NULL,
    kind text NOT NULL,
    worker text NOT NULL,
    message text NOT NULL,
    data jsonb NOT NULL
);
CREATE INDEX events_by_time ON events (ts);
