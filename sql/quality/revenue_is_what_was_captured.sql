-- Currencies in which the day's revenue is not the money of the payments captured on that day.
SELECT count(*)
FROM (
    SELECT p.currency, sum(p.amount) AS money
    FROM raw.payments p
    WHERE p.event_type = 'payment_captured' AND p.created_at >= :window_start AND p.created_at < :window_end
    GROUP BY p.currency
) captured
FULL JOIN (SELECT s.currency, sum(s.revenue) AS money FROM staged s GROUP BY s.currency) told USING (currency)
WHERE told.money IS DISTINCT FROM captured.money
