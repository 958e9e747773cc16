-- One row for each registration, on the day it was submitted, as its events have left it.
WITH submitted AS (
    SELECT DISTINCT ON (s.correlation_id) s.*
    FROM raw.registrations s
    WHERE s.event_type = 'registration_submitted'
      AND s.created_at >= :window_start AND s.created_at < :window_end
      -- Submitted again later: the first time counts.
      AND NOT EXISTS (
          SELECT 1 FROM raw.registrations e
          WHERE e.correlation_id = s.correlation_id AND e.event_type = 'registration_submitted'
            AND e.created_at < :window_start
      )
    ORDER BY s.correlation_id, s.created_at, s.event_id
), steps AS (
    SELECT r.correlation_id, r.event_type, r.created_at, r.failure_reason
    FROM submitted s JOIN raw.registrations r ON r.correlation_id = s.correlation_id
    WHERE r.created_at >= :window_start AND r.created_at < :reach_end
    UNION ALL
    SELECT p.correlation_id, p.event_type, p.created_at, p.failure_reason
    FROM submitted s JOIN raw.payments p ON p.correlation_id = s.correlation_id
    WHERE p.created_at >= :window_start AND p.created_at < :reach_end
), reached AS (
    SELECT correlation_id,
           min(created_at) FILTER (WHERE event_type = 'payment_authorized') AS authorized_at,
           min(created_at) FILTER (WHERE event_type = 'payment_captured') AS captured_at,
           min(created_at) FILTER (WHERE event_type = 'account_activated') AS activated_at,
           min(created_at) FILTER (WHERE event_type = 'invoice_issued') AS invoiced_at,
           min(created_at) FILTER (WHERE event_type IN ('payment_failed', 'registration_failed')) AS failed_at,
           min(failure_reason) FILTER (WHERE event_type IN ('payment_failed', 'registration_failed')) AS failure_reason
    FROM steps
    GROUP BY correlation_id
)
SELECT s.registration_id,
       CAST(s.created_at AT TIME ZONE 'UTC' AS date) AS day,
       s.user_id,
       s.plan_id,
       s.currency,
       s.amount,
       s.region,
       s.platform,
       s.app_version,
       CASE WHEN r.activated_at IS NOT NULL THEN 'activated'
            WHEN r.failed_at IS NOT NULL THEN 'failed'
            WHEN r.captured_at IS NOT NULL THEN 'captured'
            WHEN r.authorized_at IS NOT NULL THEN 'authorized'
            ELSE 'initiated' END AS status,
       CASE WHEN r.activated_at IS NULL THEN r.failure_reason END AS failure_reason,
       s.created_at AS submitted_at,
       r.authorized_at,
       r.captured_at,
       r.activated_at,
       r.invoiced_at,
       r.failed_at,
       extract(epoch FROM r.activated_at - s.created_at) AS activation_seconds
FROM submitted s LEFT JOIN reached r ON r.correlation_id = s.correlation_id
