-- Our own option model of a bar, the chains of each minute, and what reading longer bars from minutes needs.

ALTER TABLE bars
    ADD COLUMN model_iv double precision,
    ADD COLUMN model_delta double precision,
    ADD COLUMN model_gamma double precision,
    ADD COLUMN model_theta double precision,
    ADD COLUMN model_vega double precision,
    ADD COLUMN model_rho double precision,
    ADD COLUMN model_price double precision,
    ADD COLUMN model_price_from text,
    ADD COLUMN model_forward double precision,
    ADD COLUMN model_forward_from text,
    ADD COLUMN model_flag text; -- null: the bar has no model

-- A chain whole, and what one asks a series of.
CREATE TABLE chains (
    underlying text NOT NULL,
    expiry date NOT NULL,
    ts bigint NOT NULL, -- start of the minute, epoch ms
    rev integer NOT NULL,
    complete boolean NOT NULL,
    spot double precision,
    forward double precision,
    basis double precision,
    synthetic_future double precision,
    atm_strike double precision,
    atm_iv double precision,
    straddle double precision,
    expected_move double precision,
    one_sigma double precision,
    call_oi double precision,
    put_oi double precision,
    call_oi_change double precision,
    put_oi_change double precision,
    call_volume double precision,
    put_volume double precision,
    pcr_oi double precision,
    pcr_volume double precision,
    pcr_oi_change double precision,
    max_pain double precision,
    call_wall double precision,
    put_wall double precision,
    gex double precision,
    gex_zero double precision,
    dex double precision,
    vanna double precision,
    charm double precision,
    skew_25d double precision,
    risk_reversal_25d double precision,
    butterfly_25d double precision,
    iv_30d double precision,
    iv_rank double precision,
    iv_percentile double precision,
    data jsonb NOT NULL, -- the object of schemas.chain.Chain
    PRIMARY KEY (underlying, expiry, ts)
);
CREATE INDEX chains_by_time ON chains (underlying, ts);

-- Longer bars that are complete although some minute has no bar: the feed watched it, and there was no trade. All else
-- about a longer bar follows from its minutes.
CREATE TABLE watched (
    instrument_id bigint NOT NULL,
    minutes smallint NOT NULL, -- length of the bar; 1440: a day
    ts bigint NOT NULL, -- its start
    rev integer NOT NULL,
    PRIMARY KEY (instrument_id, minutes, ts)
);

-- Trades outside the continuous session, for the days that they belong to.
CREATE INDEX prints ON events ((data ->> 'instrument'), ts) WHERE kind = 'print';
