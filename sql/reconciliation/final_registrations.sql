-- Final rows with the instant of the last event they were made from.
SELECT registration_id,
       user_id,
       plan_id,
       currency,
       amount,
       status,
       failure_reason,
       region,
       platform,
       app_version,
       activated_at,
       submitted_at,
       greatest(submitted_at, authorized_at, captured_at, activated_at, failed_at) AS changed_at
FROM marts.registrations_final
