-- In the app and in the billing database alike: what is to be sent, written with the change that it tells of.
-- `value` is exactly what goes over the wire; `created_at` is the event's own time.
CREATE TABLE IF NOT EXISTS outbox (
    event_id uuid PRIMARY KEY,
    topic text NOT NULL,
    event_type text NOT NULL,
    correlation_id uuid NOT NULL,
    value bytea NOT NULL,
    created_at timestamptz NOT NULL,
    written_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX IF NOT EXISTS outbox_created_at ON outbox (created_at, event_id);
CREATE INDEX IF NOT EXISTS outbox_written_at ON outbox USING brin (written_at);

-- The mark of what has not been published yet; the relay takes it away. It is a table of its own because marking the
-- wide rows would write each of them twice.
-- `lane` keeps live events and simulated history apart: each lane is sent in order, by one relay.
CREATE TABLE IF NOT EXISTS outbox_unpublished (
    lane text NOT NULL,
    position bigint GENERATED ALWAYS AS IDENTITY,
    event_id uuid NOT NULL,
    PRIMARY KEY (lane, position)
);

-- What this service declares to have sent: evidence for whoever counts what arrived.
CREATE TABLE IF NOT EXISTS control_totals (
    minute timestamptz NOT NULL,
    topic text NOT NULL,
    region text NOT NULL,
    platform text NOT NULL,
    events bigint NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (minute, topic, region, platform)
);

-- How far simulated history has been written; no part of the service, and not for its readers.
CREATE SCHEMA IF NOT EXISTS simulation;
CREATE TABLE IF NOT EXISTS simulation.minutes (
    seed bigint NOT NULL,
    rate double precision NOT NULL,
    minute timestamptz NOT NULL,
    sent boolean NOT NULL DEFAULT false,
    taken_over boolean NOT NULL DEFAULT false,
    events bigint[] NOT NULL,
    digests text[] NOT NULL,
    PRIMARY KEY (seed, rate, minute)
);
-- The history that is loaded before the live service starts for the first time.
CREATE TABLE IF NOT EXISTS simulation.initial_history (
    only_one boolean PRIMARY KEY CHECK (only_one),
    first_minute timestamptz NOT NULL,
    handed_over_at timestamptz
);
