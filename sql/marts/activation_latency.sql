-- Seconds from submit to activation of the registrations submitted on a day.
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
), activated AS (
    SELECT s.platform,
           s.region,
           CAST(extract(epoch FROM a.activated_at - s.submitted_at) AS double precision) AS seconds
    FROM submitted s
    CROSS JOIN LATERAL (
        SELECT min(e.created_at) AS activated_at
        FROM raw.registrations e
        WHERE e.correlation_id = s.correlation_id AND e.event_type = 'account_activated'
          AND e.created_at >= :window_start AND e.created_at < :reach_end
    ) a
    WHERE a.activated_at IS NOT NULL
)
SELECT CAST(CAST(:window_start AS timestamptz) AT TIME ZONE 'UTC' AS date) AS day,
       platform,
       region,
       count(*) AS activations,
       percentile_cont(0.50) WITHIN GROUP (ORDER BY seconds) AS p50_seconds,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY seconds) AS p95_seconds,
       percentile_cont(0.99) WITHIN GROUP (ORDER BY seconds) AS p99_seconds
FROM activated
GROUP BY platform, region
