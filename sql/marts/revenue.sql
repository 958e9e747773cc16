-- Money captured on a day.
SELECT CAST(p.created_at AT TIME ZONE 'UTC' AS date) AS day,
       p.plan_id,
       p.currency,
       sum(p.amount) AS revenue,
       count(*) AS payments
FROM raw.payments p
WHERE p.event_type = 'payment_captured'
  AND p.created_at >= :window_start AND p.created_at < :window_end
GROUP BY 1, 2, 3
