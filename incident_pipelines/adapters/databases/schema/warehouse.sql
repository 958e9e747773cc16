-- What the warehouse holds whatever the catalog says. Idempotent.
CREATE SCHEMA IF NOT EXISTS landing;
CREATE SCHEMA IF NOT EXISTS raw;
CREATE SCHEMA IF NOT EXISTS marts;
CREATE SCHEMA IF NOT EXISTS publication;

-- One incarnation of a topic, or one history, extract, recovery, redrive or correction.
CREATE TABLE IF NOT EXISTS landing.origins (
    origin_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    contract text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('topic', 'history', 'extract', 'recovery', 'redrive', 'correction')),
    topic text,
    topic_id text,
    note text,
    opened_at timestamptz NOT NULL DEFAULT now(),
    CHECK ((kind = 'topic') = (topic IS NOT NULL AND topic_id IS NOT NULL))
);

-- Where each partition goes on. `epoch` fences: only the member that raised it last can move `next`.
CREATE TABLE IF NOT EXISTS landing.offsets (
    topic text NOT NULL,
    partition integer NOT NULL,
    contract text NOT NULL,
    origin_id integer NOT NULL REFERENCES landing.origins,
    next bigint NOT NULL CHECK (next >= 0),
    epoch bigint NOT NULL DEFAULT 0,
    owner text,
    state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'stopped')),
    stopped_reason text,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition)
) WITH (fillfactor = 50);

-- Next position of each log that is not a topic's (history, extract, recovery, redrive, correction).
CREATE TABLE IF NOT EXISTS landing.positions (
    origin_id integer NOT NULL REFERENCES landing.origins,
    partition integer NOT NULL,
    next bigint NOT NULL DEFAULT 0 CHECK (next >= 0),
    PRIMARY KEY (origin_id, partition)
) WITH (fillfactor = 50);

-- Parts of a history that are in the log already.
CREATE TABLE IF NOT EXISTS landing.chunks (
    contract text NOT NULL,
    chunk_key text NOT NULL,
    origin_id integer NOT NULL REFERENCES landing.origins,
    rows bigint NOT NULL,
    appended_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (contract, chunk_key)
);

-- How far a table of a source has been read: every row with updated_at before it is in the log.
CREATE TABLE IF NOT EXISTS landing.watermarks (
    contract text PRIMARY KEY,
    updated_before timestamptz NOT NULL,
    read_at timestamptz NOT NULL
);

-- What landed in each hour. The sum of `version` over an hour rises with every change to it.
CREATE TABLE IF NOT EXISTS landing.hours (
    contract text NOT NULL,
    hour timestamptz NOT NULL,
    origin_id integer NOT NULL,
    partition integer NOT NULL,
    version bigint NOT NULL DEFAULT 1,
    rows bigint NOT NULL,
    dead_letters bigint NOT NULL,
    first_position bigint NOT NULL,
    last_position bigint NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (contract, hour, origin_id, partition)
) WITH (fillfactor = 50);

-- Offsets that had aged out of the topic before they were landed. A range is no count of records.
CREATE TABLE IF NOT EXISTS landing.gaps (
    gap_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    contract text NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL,
    origin_id integer NOT NULL REFERENCES landing.origins,
    from_offset bigint NOT NULL,
    to_offset bigint NOT NULL,
    last_landed_at timestamptz,
    detected_at timestamptz NOT NULL DEFAULT now(),
    CHECK (to_offset > from_offset)
);

-- What happened, written in the transaction in which it happened; the monitor turns each into one signal.
CREATE TABLE IF NOT EXISTS landing.facts (
    fact_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL,
    dataset text NOT NULL,
    window_start timestamptz,
    window_end timestamptz,
    detail jsonb NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    -- Ids are given before commit: a reader goes by transactions that have all ended instead.
    xid xid8 NOT NULL DEFAULT pg_current_xact_id()
);
CREATE INDEX IF NOT EXISTS facts_xid ON landing.facts (xid, fact_id);

-- Rows that landed well and that only the window as a whole shows to be wrong.
CREATE TABLE IF NOT EXISTS landing.quarantine (
    contract text NOT NULL,
    window_start timestamptz NOT NULL,
    origin_id integer NOT NULL,
    partition integer NOT NULL,
    position bigint NOT NULL,
    key text NOT NULL,
    reasons text[] NOT NULL,
    correlation_id text,
    quarantined_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (contract, window_start, origin_id, partition, position)
);
CREATE INDEX IF NOT EXISTS quarantine_key ON landing.quarantine (contract, key);
CREATE INDEX IF NOT EXISTS quarantine_correlation ON landing.quarantine (correlation_id);

-- What is published of each window, and from which version of its inputs.
CREATE TABLE IF NOT EXISTS publication.windows (
    dataset text NOT NULL,
    window_start timestamptz NOT NULL,
    window_end timestamptz NOT NULL,
    state text NOT NULL CHECK (state IN ('published', 'refused')),
    version bigint NOT NULL,
    rows bigint NOT NULL,
    changed_rows bigint NOT NULL,
    duplicates bigint NOT NULL,
    dead_letters bigint NOT NULL,
    quarantined bigint NOT NULL,
    failed_rules text[] NOT NULL DEFAULT '{}',
    owner text NOT NULL,
    seconds double precision NOT NULL,
    published_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (dataset, window_start)
) WITH (fillfactor = 50);
-- What publishing left in the window, for the watch: number of rows, sum of their hashes, and the columns hashed.
-- Absent where a window was published before digests were kept, or another window took rows out of it since.
ALTER TABLE publication.windows ADD COLUMN IF NOT EXISTS content_rows bigint;
ALTER TABLE publication.windows ADD COLUMN IF NOT EXISTS content_digest numeric;
ALTER TABLE publication.windows ADD COLUMN IF NOT EXISTS content_columns text[];
ALTER TABLE publication.windows ADD COLUMN IF NOT EXISTS content_at timestamptz;

-- Marks besides the log that make a window stale: a mart's inputs changed, a reference appeared, an id conflicts.
CREATE TABLE IF NOT EXISTS publication.inputs (
    dataset text NOT NULL,
    window_start timestamptz NOT NULL,
    version bigint NOT NULL DEFAULT 1,
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (dataset, window_start)
) WITH (fillfactor = 50);

-- Windows that a run over a range has done, so that a retry does only the others.
CREATE TABLE IF NOT EXISTS publication.progress (
    root_run_id text NOT NULL,
    dataset text NOT NULL,
    window_start timestamptz NOT NULL,
    version bigint NOT NULL,
    changed_rows bigint NOT NULL,
    done_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (root_run_id, dataset, window_start)
);
-- Result of each rule at the last build of each window.
CREATE TABLE IF NOT EXISTS publication.checks (
    dataset text NOT NULL,
    window_start timestamptz NOT NULL,
    rule text NOT NULL,
    passed boolean NOT NULL,
    rows bigint NOT NULL,
    unexpected bigint NOT NULL,
    max_share double precision NOT NULL,
    severity text NOT NULL,
    checked_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (dataset, window_start, rule)
);

-- Windows that an incident keeps everybody else from publishing while the row stands.
CREATE TABLE IF NOT EXISTS publication.holds (
    hold_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    dataset text NOT NULL,
    window_start timestamptz NOT NULL,
    window_end timestamptz NOT NULL,
    incident_id text NOT NULL,
    -- Incidents are numbered in the order in which they were opened.
    number bigint GENERATED ALWAYS AS (substr(incident_id, 5)::bigint) STORED,
    kind text NOT NULL CHECK (kind IN ('pause', 'quarantine', 'recovery')),
    reason text NOT NULL,
    held_at timestamptz NOT NULL,
    CHECK (window_end > window_start),
    UNIQUE (incident_id, kind, dataset, window_start, window_end)
);
CREATE INDEX IF NOT EXISTS holds_overlap ON publication.holds (dataset, window_start);
