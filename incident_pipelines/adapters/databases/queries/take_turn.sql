-- The seconds taken are waited for before what they are for is done, so that no span of time ever sees more.
UPDATE incidents.pace SET free_at = greatest(free_at, clock_timestamp()) + make_interval(secs => :seconds)
RETURNING extract(epoch FROM free_at - clock_timestamp()) AS wait_seconds
