-- Incidents, in the control database. Idempotent.
CREATE SCHEMA IF NOT EXISTS incidents;
CREATE SEQUENCE IF NOT EXISTS incidents.numbers;

CREATE TABLE IF NOT EXISTS incidents.incidents (
    incident_id text PRIMARY KEY DEFAULT 'INC-' || nextval('incidents.numbers'),
    number bigint GENERATED ALWAYS AS (substr(incident_id, 5)::bigint) STORED,
    type text NOT NULL,
    cause text NOT NULL,
    severity text NOT NULL CHECK (severity IN ('P0', 'P1', 'P2', 'P3')),
    state text NOT NULL DEFAULT 'detected' CHECK (state IN ('detected', 'contained', 'scoped', 'planned',
        'awaiting_approval', 'waiting_for_cause', 'recovering', 'verifying', 'recovered', 'resolved', 'reviewed',
        'escalated')),
    title text NOT NULL,
    source text NOT NULL CHECK (source IN ('check', 'sensor', 'run_failure', 'person')),
    datasets text[] NOT NULL,
    window_start timestamptz,
    window_end timestamptz,
    began_at timestamptz NOT NULL,
    detected_at timestamptz NOT NULL,
    opened_at timestamptz NOT NULL,
    last_signal_at timestamptz,
    signals integer NOT NULL DEFAULT 0,
    -- Rises whenever what is affected has grown.
    revision integer NOT NULL DEFAULT 1,
    commander text,
    acknowledged_at timestamptz,
    acknowledged_by text,
    contained_at timestamptz,
    recovered_at timestamptz,
    resolved_at timestamptz,
    resolution text CHECK (resolution IN ('proven', 'by_hand')),
    reviewed_at timestamptz,
    stopped_at timestamptz,
    stopped_by text,
    stopped_because text,
    -- Of the timeline; written by its trigger alone.
    entries integer NOT NULL DEFAULT 0,
    head_hash text NOT NULL DEFAULT repeat('0', 64)
);
CREATE INDEX IF NOT EXISTS incidents_open ON incidents.incidents (number)
    WHERE state NOT IN ('resolved', 'reviewed');

CREATE TABLE IF NOT EXISTS incidents.timeline (
    incident_id text NOT NULL REFERENCES incidents.incidents,
    entry integer NOT NULL,
    at timestamptz NOT NULL,
    kind text NOT NULL,
    actor_kind text NOT NULL CHECK (actor_kind IN ('person', 'sensor', 'run')),
    actor text NOT NULL,
    text text NOT NULL,
    state_from text,
    state_to text,
    detail jsonb NOT NULL DEFAULT '{}',
    previous_hash text NOT NULL,
    hash text NOT NULL,
    PRIMARY KEY (incident_id, entry)
);

-- Each signal belongs to one incident.
CREATE TABLE IF NOT EXISTS incidents.signals (
    signal_id bigint PRIMARY KEY REFERENCES monitoring.signals,
    incident_id text NOT NULL REFERENCES incidents.incidents,
    joined_at timestamptz NOT NULL
);
CREATE INDEX IF NOT EXISTS signals_incident ON incidents.signals (incident_id);

CREATE TABLE IF NOT EXISTS incidents.plans (
    plan_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    incident_id text NOT NULL REFERENCES incidents.incidents,
    digest text NOT NULL,
    -- Of the incident, that it was made for.
    revision integer NOT NULL,
    body jsonb NOT NULL,
    made_at timestamptz NOT NULL,
    made_by text NOT NULL,
    approved_at timestamptz,
    approved_by text,
    UNIQUE (incident_id, digest)
);

-- Effects outside of this database: the intent is committed before the effect, the outcome after it. An intent without
-- outcome is taken up again.
CREATE TABLE IF NOT EXISTS incidents.actions (
    action_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    incident_id text NOT NULL REFERENCES incidents.incidents,
    key text NOT NULL UNIQUE,
    kind text NOT NULL,
    target jsonb NOT NULL DEFAULT '{}',
    state text NOT NULL DEFAULT 'intended' CHECK (state IN ('intended', 'done', 'failed', 'undone')),
    intended_at timestamptz NOT NULL,
    intended_by text NOT NULL,
    attempts integer NOT NULL DEFAULT 1,
    outcome jsonb,
    outcome_at timestamptz,
    -- What its undoing needs; none where it cannot or need not be undone.
    undo jsonb,
    undone_at timestamptz,
    undone_by text
);
CREATE INDEX IF NOT EXISTS actions_incident ON incidents.actions (incident_id, action_id);

CREATE TABLE IF NOT EXISTS incidents.action_items (
    incident_id text NOT NULL REFERENCES incidents.incidents,
    item integer NOT NULL,
    text text NOT NULL,
    owner text NOT NULL,
    due date,
    added_at timestamptz NOT NULL,
    added_by text NOT NULL,
    done_at timestamptz,
    done_by text,
    PRIMARY KEY (incident_id, item)
);

-- What was found out: scope, replay, proof and loss, each as it stood; the last of a kind counts.
CREATE TABLE IF NOT EXISTS incidents.findings (
    finding_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    incident_id text NOT NULL REFERENCES incidents.incidents,
    kind text NOT NULL CONSTRAINT findings_kind CHECK (kind IN ('scope', 'replay', 'proof', 'loss')),
    -- Of the incident, that it was made for.
    revision integer NOT NULL,
    body jsonb NOT NULL,
    found_at timestamptz NOT NULL
);
-- It had another name before there were replays.
ALTER TABLE incidents.findings DROP CONSTRAINT IF EXISTS findings_kind_check;
CREATE INDEX IF NOT EXISTS findings_latest ON incidents.findings (incident_id, kind, finding_id DESC);

-- What a plan may still replay: taken before it is done, so that a crash cannot exceed it.
CREATE TABLE IF NOT EXISTS incidents.budgets (
    plan_id bigint PRIMARY KEY REFERENCES incidents.plans,
    events_at_most bigint NOT NULL,
    taken bigint NOT NULL DEFAULT 0 CHECK (taken <= events_at_most),
    replayed bigint NOT NULL DEFAULT 0,
    failed bigint NOT NULL DEFAULT 0
);

-- When the next events may be replayed, over all recoveries: one row.
CREATE TABLE IF NOT EXISTS incidents.pace (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    free_at timestamptz NOT NULL DEFAULT '-infinity'
);
INSERT INTO incidents.pace DEFAULT VALUES ON CONFLICT DO NOTHING;

-- How many events a second landing was measured to take, here.
CREATE TABLE IF NOT EXISTS incidents.capacities (
    measured_at timestamptz PRIMARY KEY,
    events_per_second double precision NOT NULL CHECK (events_per_second > 0),
    how text NOT NULL
);

-- Calls that complete paid and unfinished cases: one row for each case; its intent is committed before the call.
CREATE TABLE IF NOT EXISTS incidents.salvaged (
    salvage text NOT NULL,
    key text NOT NULL,
    incident_id text REFERENCES incidents.incidents,
    amount numeric NOT NULL,
    currency text NOT NULL,
    -- When it was paid for.
    since timestamptz NOT NULL,
    state text NOT NULL DEFAULT 'intended' CHECK (state IN ('intended', 'completed', 'refused', 'unanswered')),
    attempts integer NOT NULL DEFAULT 1,
    intended_at timestamptz NOT NULL,
    intended_by text NOT NULL,
    outcome text,
    outcome_at timestamptz,
    PRIMARY KEY (salvage, key)
);

-- The timeline is append-only for its owner as well. A superuser can switch triggers off; the hashes tell.
CREATE OR REPLACE FUNCTION incidents.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the timeline of incidents is append-only: % is refused', TG_OP USING ERRCODE = 'restrict_violation';
END $$;

-- An entry follows the last one, and the incident knows it from then on. Runs as its owner: nobody else may write
-- what an incident knows of its timeline.
CREATE OR REPLACE FUNCTION incidents.append_entry() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    incident record;
BEGIN
    SELECT i.entries, i.head_hash INTO incident FROM incidents.incidents i WHERE i.incident_id = NEW.incident_id FOR UPDATE;
    IF NEW.entry <> incident.entries + 1 OR NEW.previous_hash <> incident.head_hash THEN
        RAISE EXCEPTION 'entry % of % does not follow its last one, %', NEW.entry, NEW.incident_id, incident.entries
            USING ERRCODE = 'restrict_violation';
    END IF;
    UPDATE incidents.incidents SET entries = NEW.entry, head_hash = NEW.hash WHERE incident_id = NEW.incident_id;
    RETURN NEW;
END $$;

-- A state that no entry of the timeline tells is refused at the end of its transaction.
CREATE OR REPLACE FUNCTION incidents.check_state_is_told() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    current_state text;
    told text;
BEGIN
    SELECT i.state INTO current_state FROM incidents.incidents i WHERE i.incident_id = NEW.incident_id;
    SELECT t.state_to INTO told FROM incidents.timeline t
    WHERE t.incident_id = NEW.incident_id AND t.state_to IS NOT NULL ORDER BY t.entry DESC LIMIT 1;
    IF told IS DISTINCT FROM current_state THEN
        RAISE EXCEPTION '% is % but its timeline says %', NEW.incident_id, current_state, coalesce(told, 'nothing')
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NULL;
END $$;

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgname = 'state_is_told') THEN
        CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON incidents.timeline
            FOR EACH ROW EXECUTE FUNCTION incidents.refuse_change();
        CREATE TRIGGER never_truncated BEFORE TRUNCATE ON incidents.timeline
            FOR EACH STATEMENT EXECUTE FUNCTION incidents.refuse_change();
        CREATE TRIGGER chained BEFORE INSERT ON incidents.timeline
            FOR EACH ROW EXECUTE FUNCTION incidents.append_entry();
        CREATE CONSTRAINT TRIGGER state_is_told AFTER INSERT OR UPDATE OF state ON incidents.incidents
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION incidents.check_state_is_told();
    END IF;
END $$;

-- Reports: the text is committed before its file is written and before it is sent, so that all of it can be repeated.
CREATE TABLE IF NOT EXISTS incidents.reports (
    incident_id text NOT NULL REFERENCES incidents.incidents,
    name text NOT NULL CHECK (name ~ '^[a-z0-9][a-z0-9-]*$'),
    kind text NOT NULL,
    -- What it was made of: it is made and sent again when that changes.
    basis text NOT NULL,
    title text NOT NULL,
    body text NOT NULL,
    made_at timestamptz NOT NULL,
    path text,
    -- Digests of the addresses that have taken it.
    delivered text[] NOT NULL DEFAULT '{}',
    -- When it was sent to all of them; how many these were: 0 where nobody is to be told.
    sent_at timestamptz,
    addresses integer,
    attempts integer NOT NULL DEFAULT 0,
    attempt_after timestamptz NOT NULL DEFAULT '-infinity',
    error text,
    UNIQUE (incident_id, name)
);
CREATE INDEX IF NOT EXISTS reports_unfinished ON incidents.reports (made_at) WHERE path IS NULL OR sent_at IS NULL;
