-- First statement of a reconciliation: who we are, and whether the ledger of it is ours.
SELECT set_config('application_name', :owner, true),
       set_config('TimeZone', 'UTC', true),
       pg_try_advisory_xact_lock(:lock_key) AS taken
