-- Events that no function could take, kept until an operator has replayed or dropped them.
--
-- `data` and `attributes` may hold a prompt and the token that signed for it, so the function that writes them cannot
-- read them (0005), and dropping a letter empties both. What a letter is about (source, id, type, subject, destination,
-- error_code) may stand in a log; the rest may not.

CREATE TABLE dead_letter (
    number      bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- what an operator calls it
    key         text        NOT NULL UNIQUE CHECK (key ~ '^[0-9a-f]{64}$'), -- sha256 of source, id and destination
    source      text        NOT NULL,
    id          text        NOT NULL,
    type        text        NOT NULL,
    subject     text        NOT NULL DEFAULT '',
    destination text        NOT NULL DEFAULT '',       -- who could not take it, as the Broker names it
    error_code  text        NOT NULL DEFAULT '' CHECK (length(error_code) <= 64),
    error_data  text        NOT NULL DEFAULT '' CHECK (length(error_data) <= 2048),
    attributes  jsonb       NOT NULL,                  -- the event's own, without what the Broker added
    data        bytea,
    first_at    timestamptz NOT NULL DEFAULT now(),
    last_at     timestamptz NOT NULL DEFAULT now(),
    times       integer     NOT NULL DEFAULT 1 CHECK (times >= 1),
    replayed_at timestamptz,
    dropped_at  timestamptz,
    CHECK (dropped_at IS NULL OR data IS NULL)
);
CREATE INDEX dead_letter_open ON dead_letter (destination) WHERE replayed_at IS NULL AND dropped_at IS NULL;

GRANT SELECT, INSERT, UPDATE ON dead_letter TO generator_app;
