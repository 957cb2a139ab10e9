-- Events heard and events to be told. At least once everywhere, and once only in effect.

-- An event that has been answered. Written in the transaction of its effect, so hearing twice equals hearing once.
CREATE TABLE inbox (
    function text        NOT NULL,
    source   text        NOT NULL,
    id       text        NOT NULL,
    at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (function, source, id)
);

-- Signed requests carry a nonce; each is good for one event.
CREATE TABLE signature_seen (
    jti      text        PRIMARY KEY CHECK (length(jti) BETWEEN 1 AND 128),
    event_id text        NOT NULL,
    expires_at timestamptz NOT NULL
);

-- An event to be told. Written in the transaction of the fact it tells, posted right after the commit.
--   told_at   set when the function that must hear it has (in that function's own transaction), or, for an event that
--             only the world listens to, when the Broker has taken it.
--   retell_at when `sweep` posts it again if nobody has set told_at by then.
CREATE TABLE outbox (
    source    text        NOT NULL,
    id        text        NOT NULL,
    type      text        NOT NULL,
    subject   text        NOT NULL,
    time      timestamptz NOT NULL,
    data      jsonb       NOT NULL,
    heard_by  text,
    told_at   timestamptz,
    retell_at timestamptz NOT NULL,
    tellings  integer     NOT NULL DEFAULT 0,
    PRIMARY KEY (source, id)
);
CREATE INDEX outbox_untold ON outbox (retell_at) WHERE told_at IS NULL;
CREATE INDEX outbox_of_subject ON outbox (subject);

GRANT SELECT, INSERT ON inbox, signature_seen TO generator_app;
GRANT SELECT, INSERT, UPDATE ON outbox TO generator_app;
