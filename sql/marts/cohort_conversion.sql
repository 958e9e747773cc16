-- How many of the registrations submitted on a day were activated soon.
WITH submitted AS MATERIALIZED (
    SELECT DISTINCT ON (s.correlation_id) s.correlation_id, s.platform, s.region, s.created_at AS submitted_at
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
)
SELECT CAST(CAST(:window_start AS timestamptz) AT TIME ZONE 'UTC' AS date) AS day,
       s.region,
       s.platform,
       count(*) AS registrations,
       count(*) FILTER (WHERE a.activated_at < s.submitted_at + interval '1 hour') AS activated_within_1_hour,
       count(*) FILTER (WHERE a.activated_at < s.submitted_at + interval '1 day') AS activated_within_1_day,
       count(*) FILTER (WHERE a.activated_at < s.submitted_at + interval '7 days') AS activated_within_7_days
FROM submitted s
CROSS JOIN LATERAL (
    SELECT min(e.created_at) AS activated_at
    FROM raw.registrations e
    WHERE e.correlation_id = s.correlation_id AND e.event_type = 'account_activated'
      AND e.created_at >= :window_start AND e.created_at < :reach_end
) a
GROUP BY s.region, s.platform
