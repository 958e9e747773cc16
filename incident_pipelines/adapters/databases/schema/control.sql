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

-- How far the facts have been read.
CREATE TABLE IF NOT EXISTS monitoring.cursors (
    name text PRIMARY KEY,
    xid numeric NOT NULL,
    moved_at timestamptz NOT NULL DEFAULT now()
);
