-- What strategies said. Once each: a signal's id is its strategy's, and the same however often it is written.
CREATE TABLE signals (
    id text PRIMARY KEY,
    ts bigint NOT NULL, -- epoch ms, the strategy's
    strategy text NOT NULL,
    instrument text NOT NULL,
    side text NOT NULL,
    data jsonb NOT NULL -- the object of schemas.signals.Signal
);
CREATE INDEX signals_by_time ON signals (ts);
CREATE INDEX signals_by_strategy ON signals (strategy, ts);
