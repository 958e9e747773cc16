SELECT minute, region, platform, events
FROM control_totals
WHERE topic = 'page_views' AND minute >= :window_start AND minute < :window_end
