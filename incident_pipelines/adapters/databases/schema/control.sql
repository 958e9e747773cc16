-- The control database: it has to survive the warehouse. Idempotent.
CREATE SCHEMA IF NOT EXISTS monitoring;

CREATE TABLE IF NOT EXISTS monitoring.signals (
    signal_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL,
    severity text NOT NULL CHECK (severity IN ('info', 'warning', 'page', 'critical')),
    dataset text NOT NULL,
    window_start timestamptz,
    window_end timestamptz,
    detail jsonb NOT NULL,
    source_fact bigint UNIQUE,
    occurred_at timestamptz NOT NULL,
    raised_at timestamptz NOT NULL DEFAULT now()
);
-- Signals of a rule and not of a fact: what was found, once while it lasts, and when it was over.
ALTER TABLE monitoring.signals ADD COLUMN IF NOT EXISTS source_key text;
ALTER TABLE monitoring.signals ADD COLUMN IF NOT EXISTS cleared_at timestamptz;
CREATE UNIQUE INDEX IF NOT EXISTS signals_open_key ON monitoring.signals (source_key) WHERE cleared_at IS NULL;

-- How far the facts have been read.
CREATE TABLE IF NOT EXISTS monitoring.cursors (
    name text PRIMARY KEY,
    xid numeric NOT NULL,
    moved_at timestamptz NOT NULL DEFAULT now()
);

-- Watches that somebody told to be quiet, until when and why. It ends by itself; the rows stay.
CREATE TABLE IF NOT EXISTS monitoring.suspensions (
    suspension_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    watch text NOT NULL CHECK (watch IN ('retention', 'landing')),
    began_at timestamptz NOT NULL,
    until timestamptz NOT NULL CHECK (until > began_at),
    by text NOT NULL,
    because text NOT NULL,
    ended_at timestamptz,
    ended_by text
);
CREATE UNIQUE INDEX IF NOT EXISTS suspensions_open ON monitoring.suspensions (watch) WHERE ended_at IS NULL;

-- Who changed a topic's retention with `topics apply`: written before, completed after the broker has it.
CREATE TABLE IF NOT EXISTS monitoring.topic_changes (
    change_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic text NOT NULL,
    retention_before_ms bigint NOT NULL,
    retention_after_ms bigint NOT NULL,
    acknowledged_for text[] NOT NULL,
    by text NOT NULL,
    asked_at timestamptz NOT NULL,
    done_at timestamptz,
    failure text
);

-- Retention of each topic as it was when nothing was wrong with it; a short one is put back to it.
CREATE TABLE IF NOT EXISTS monitoring.topic_retentions (
    topic text PRIMARY KEY,
    retention_ms bigint NOT NULL,
    seen_at timestamptz NOT NULL
);

-- What two tables disagreed on, and since when. It outlives both of them.
CREATE SCHEMA IF NOT EXISTS reconciliation;

-- One run is one transaction: its row here and what it found below come together or not at all.
CREATE TABLE IF NOT EXISTS reconciliation.runs (
    run_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    reconciliation text NOT NULL,
    mode text NOT NULL CHECK (mode IN ('hourly', 'full')),
    as_of timestamptz NOT NULL,
    window_start timestamptz,
    window_end timestamptz,
    -- Rows of the window, or all; differences of those rows that nothing explains.
    source_rows bigint NOT NULL DEFAULT 0,
    target_rows bigint NOT NULL DEFAULT 0,
    missing bigint NOT NULL DEFAULT 0,
    unexpected bigint NOT NULL DEFAULT 0,
    mismatched bigint NOT NULL DEFAULT 0,
    gap_rate numeric NOT NULL DEFAULT 0,
    -- What the run did to the ledger.
    opened bigint NOT NULL DEFAULT 0,
    reopened bigint NOT NULL DEFAULT 0,
    resolved bigint NOT NULL DEFAULT 0,
    -- The whole ledger after it.
    open_unexplained bigint NOT NULL DEFAULT 0,
    open_in_flight bigint NOT NULL DEFAULT 0,
    open_incident bigint NOT NULL DEFAULT 0,
    money_at_stake jsonb NOT NULL DEFAULT '{}',
    joined bigint,
    joinable bigint,
    verdict text NOT NULL DEFAULT 'ok' CHECK (verdict IN ('ok', 'warn', 'error')),
    statement text NOT NULL DEFAULT '',
    seconds double precision NOT NULL DEFAULT 0,
    owner text NOT NULL,
    finished_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX IF NOT EXISTS runs_latest ON reconciliation.runs (reconciliation, mode, run_id DESC);

-- One row for each difference there ever was.
CREATE TABLE IF NOT EXISTS reconciliation.ledger (
    difference_id text PRIMARY KEY,
    reconciliation text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('missing', 'unexpected', 'mismatched')),
    key jsonb NOT NULL,
    key_types jsonb NOT NULL,
    occurrence integer NOT NULL DEFAULT 0,
    -- Column -> {"source": value, "target": value}, of what differs.
    columns jsonb NOT NULL,
    source jsonb,
    target jsonb,
    first_seen timestamptz NOT NULL,
    opened_at timestamptz NOT NULL,
    last_seen timestamptz NOT NULL,
    resolved_at timestamptz,
    reopened integer NOT NULL DEFAULT 0,
    -- The younger of both sides' rows, where a column says when it was written or changed.
    newest_at timestamptz,
    explanation text CHECK (explanation IN ('in_flight', 'incident')),
    incident_id text,
    money_at_stake numeric,
    currency text,
    values_digest text NOT NULL,
    -- Whether the last run that saw it looked at its row for the row's own sake, and not only because it was open.
    in_scope boolean NOT NULL,
    run_id bigint NOT NULL REFERENCES reconciliation.runs
);
-- When the row of each side belongs to, by the declared time column: its last change may be much younger.
ALTER TABLE reconciliation.ledger ADD COLUMN IF NOT EXISTS source_time timestamptz;
ALTER TABLE reconciliation.ledger ADD COLUMN IF NOT EXISTS target_time timestamptz;
CREATE INDEX IF NOT EXISTS ledger_open ON reconciliation.ledger (reconciliation, difference_id)
    WHERE resolved_at IS NULL;

-- The ledger with the age of each difference: since it was first seen, until it was resolved. Explanation and incident
-- may be written through it.
CREATE OR REPLACE VIEW reconciliation.differences AS
SELECT difference_id, reconciliation, kind, key, columns, source, target, occurrence, first_seen, opened_at, last_seen,
       resolved_at, coalesce(resolved_at, now()) - first_seen AS age, reopened, newest_at, money_at_stake, currency,
       explanation, incident_id, run_id, source_time, target_time
FROM reconciliation.ledger;
