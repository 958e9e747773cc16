UPDATE incidents.pace SET free_at = greatest(free_at, clock_timestamp()) + make_interval(secs => :seconds)
RETURNING extract(epoch FROM free_at - make_interval(secs => :seconds) - clock_timestamp()) AS wait_seconds
