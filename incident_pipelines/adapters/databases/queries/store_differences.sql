-- New ones, and what became of those that are known.
INSERT INTO reconciliation.ledger (difference_id, reconciliation, kind, key, key_types, occurrence, columns, source,
    target, first_seen, opened_at, last_seen, reopened, newest_at, source_time, target_time, explanation, incident_id,
    money_at_stake, currency, values_digest, in_scope, run_id)
SELECT r.difference_id, :reconciliation, r.kind, r.key, r.key_types, r.occurrence, r.columns, r.source,
       r.target, r.first_seen, r.opened_at, r.last_seen, r.reopened, r.newest_at, r.source_time, r.target_time,
       r.explanation, r.incident_id, r.money_at_stake, r.currency, r.values_digest, r.in_scope, :run_id
FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(difference_id text, kind text, key jsonb, key_types jsonb,
    occurrence integer, columns jsonb, source jsonb, target jsonb, first_seen timestamptz, opened_at timestamptz,
    last_seen timestamptz, reopened integer, newest_at timestamptz, source_time timestamptz, target_time timestamptz,
    explanation text, incident_id text, money_at_stake numeric, currency text, values_digest text, in_scope boolean)
ON CONFLICT (difference_id) DO UPDATE SET columns = EXCLUDED.columns, source = EXCLUDED.source,
    target = EXCLUDED.target, opened_at = EXCLUDED.opened_at, last_seen = EXCLUDED.last_seen, resolved_at = NULL,
    reopened = EXCLUDED.reopened, newest_at = EXCLUDED.newest_at, source_time = EXCLUDED.source_time,
    target_time = EXCLUDED.target_time, explanation = EXCLUDED.explanation, incident_id = EXCLUDED.incident_id,
    money_at_stake = EXCLUDED.money_at_stake, currency = EXCLUDED.currency, values_digest = EXCLUDED.values_digest,
    in_scope = EXCLUDED.in_scope, run_id = EXCLUDED.run_id
