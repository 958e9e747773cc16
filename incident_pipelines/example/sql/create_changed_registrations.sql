CREATE TEMPORARY TABLE changed_registrations (
    registration_id uuid, status text, failure_reason text, activated_at timestamptz
) ON COMMIT DROP
