SELECT minute, region, platform, events
FROM control_totals
WHERE topic = 'registrations' AND minute >= :window_start AND minute < :window_end
