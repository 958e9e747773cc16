SELECT minute, region, platform, events
FROM control_totals
WHERE topic = 'payments' AND minute >= :window_start AND minute < :window_end
