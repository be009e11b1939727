-- The order worker's journal: what was decided, asked, answered and seen, in that order, never changed afterwards.
--
-- `n` numbers the facts of all accounts without gaps in meaning: a later fact has a higher one.
CREATE TABLE journal (
    n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    ts bigint NOT NULL, -- epoch ms
    account text NOT NULL, -- the trading mode: paper, shadow, live; empty: of all
    kind text NOT NULL, -- of the fact, see gtt/book/facts.py
    intent_id text NOT NULL DEFAULT '',
    order_id text NOT NULL DEFAULT '',
    gtt_id text NOT NULL DEFAULT '',
    instrument text NOT NULL DEFAULT '',
    strategy text NOT NULL DEFAULT '',
    data jsonb NOT NULL
);
CREATE INDEX journal_by_time ON journal (ts);
CREATE INDEX journal_by_order ON journal (order_id) WHERE order_id <> '';
CREATE INDEX journal_by_gtt ON journal (gtt_id) WHERE gtt_id <> '';
-- One decision per intent, whatever is delivered twice.
CREATE UNIQUE INDEX journal_one_decision ON journal (intent_id) WHERE kind IN ('approved', 'refused', 'gtt_accepted');

-- Facts are not corrected. Only what is older than its time leaves, by a session that says so.
CREATE FUNCTION journal_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('teji.retention', true) = 'on' THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'the journal is append-only';
END $$;
CREATE TRIGGER journal_append_only BEFORE UPDATE OR DELETE ON journal
    FOR EACH ROW EXECUTE FUNCTION journal_is_append_only();

-- Who may append: the highest fencing token that was seen. One row.
CREATE TABLE journal_owner (
    id int PRIMARY KEY CHECK (id = 1),
    token bigint NOT NULL,
    since timestamptz NOT NULL DEFAULT now()
);
INSERT INTO journal_owner (id, token) VALUES (1, 0);

-- The fold of the journal up to `n`, so that a start reads only what came later. One row; made anew from the journal
-- where it is missing or of another version.
CREATE TABLE journal_snapshot (
    id int PRIMARY KEY CHECK (id = 1),
    n bigint NOT NULL,
    version int NOT NULL,
    state jsonb NOT NULL
);

-- The book of a paper venue: what it was asked and what it did, so that it survives as a real one does.
CREATE TABLE paper_log (
    n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account text NOT NULL, -- paper, shadow
    seq bigint NOT NULL, -- numbers the facts of an account without gaps: two writers cannot fork its book
    ts bigint NOT NULL, -- epoch ms
    kind text NOT NULL, -- see brokers/paper/facts.py
    tag text NOT NULL DEFAULT '',
    data jsonb NOT NULL
);
CREATE UNIQUE INDEX paper_log_in_order ON paper_log (account, seq);
CREATE INDEX paper_log_by_tag ON paper_log (account, tag) WHERE tag <> '';
CREATE INDEX paper_log_openings ON paper_log (account, seq) WHERE kind = 'opened';
CREATE UNIQUE INDEX paper_log_one_order_a_tag ON paper_log (account, tag) WHERE kind = 'placed' AND tag <> '';
