-- The registration service's own database. Every statement may be run again.
CREATE TABLE IF NOT EXISTS plans (
    plan_id text PRIMARY KEY,
    name text NOT NULL,
    currency text NOT NULL,
    amount numeric(12, 2) NOT NULL CHECK (amount >= 0),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX IF NOT EXISTS plans_updated_at ON plans (updated_at, plan_id);

CREATE TABLE IF NOT EXISTS users (
    user_id uuid PRIMARY KEY,
    email text NOT NULL,
    region text NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX IF NOT EXISTS users_created_at ON users (created_at, user_id);
CREATE INDEX IF NOT EXISTS users_updated_at ON users (updated_at, user_id);

-- created_at is when the sign-up happened; updated_at is when this database last changed the row, also where a
-- history is written years later: who reads changed rows by updated_at must not miss them.
CREATE TABLE IF NOT EXISTS registrations (
    registration_id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users,
    plan_id text NOT NULL REFERENCES plans,
    currency text NOT NULL,
    amount numeric(12, 2) NOT NULL CHECK (amount >= 0),
    status text NOT NULL CHECK (status IN ('initiated', 'authorized', 'captured', 'activated', 'failed')),
    failure_reason text,
    source text NOT NULL,
    app_version text NOT NULL,
    region text NOT NULL,
    platform text NOT NULL,
    created_at timestamptz NOT NULL,
    activated_at timestamptz,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX IF NOT EXISTS registrations_created_at ON registrations (created_at, registration_id);
CREATE INDEX IF NOT EXISTS registrations_updated_at ON registrations (updated_at, registration_id);

-- What a client got for its idempotency key: asked again, it gets the same.
CREATE TABLE IF NOT EXISTS idempotency_keys (
    idempotency_key text PRIMARY KEY,
    registration_id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Sign-ups that are under way: what is to be done next, and when. A row goes when its sign-up has ended.
CREATE TABLE IF NOT EXISTS sign_up_flows (
    registration_id uuid PRIMARY KEY REFERENCES registrations,
    step text NOT NULL CHECK (step IN ('payment', 'activation', 'invoice')),
    card text NOT NULL,
    activation_delay_seconds double precision NOT NULL DEFAULT 0,
    attempts integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_error text
);
CREATE INDEX IF NOT EXISTS sign_up_flows_next_attempt_at ON sign_up_flows (next_attempt_at);
