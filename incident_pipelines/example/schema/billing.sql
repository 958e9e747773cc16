-- Billing's own database. Every statement may be run again.
-- updated_at is when this database last changed the row; created_at is when the payment was initiated.
CREATE TABLE IF NOT EXISTS payments (
    payment_id uuid PRIMARY KEY,
    registration_id uuid NOT NULL UNIQUE,
    user_id uuid NOT NULL,
    external_transaction_id text UNIQUE,
    plan_id text NOT NULL,
    currency text NOT NULL,
    amount numeric(12, 2) NOT NULL CHECK (amount >= 0),
    status text NOT NULL CHECK (status IN ('initiated', 'authorized', 'captured', 'failed')),
    failure_reason text,
    app_version text NOT NULL,
    region text NOT NULL,
    platform text NOT NULL,
    created_at timestamptz NOT NULL,
    captured_at timestamptz,
    capture_due_at timestamptz,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX IF NOT EXISTS payments_created_at ON payments (created_at, payment_id);
CREATE INDEX IF NOT EXISTS payments_captured_at ON payments (captured_at, payment_id);
CREATE INDEX IF NOT EXISTS payments_updated_at ON payments (updated_at, payment_id);
CREATE INDEX IF NOT EXISTS payments_capture_due_at ON payments (capture_due_at)
    WHERE status = 'authorized' AND capture_due_at IS NOT NULL;

CREATE TABLE IF NOT EXISTS invoices (
    invoice_id uuid PRIMARY KEY,
    payment_id uuid NOT NULL UNIQUE REFERENCES payments,
    registration_id uuid NOT NULL,
    currency text NOT NULL,
    amount numeric(12, 2) NOT NULL CHECK (amount >= 0),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX IF NOT EXISTS invoices_created_at ON invoices (created_at, invoice_id);
CREATE INDEX IF NOT EXISTS invoices_updated_at ON invoices (updated_at, invoice_id);
