INSERT INTO control_totals (minute, topic, region, platform, events)
SELECT * FROM unnest(%s::timestamptz[], %s::text[], %s::text[], %s::text[], %s::bigint[])
ON CONFLICT (minute, topic, region, platform)
DO UPDATE SET events = control_totals.events + excluded.events, updated_at = clock_timestamp()
