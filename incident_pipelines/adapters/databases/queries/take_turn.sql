-- The seconds taken are waited for before what they are for is done. Who was busy for less than them is not made to wait
-- for that time as well: from its first turn on no replay is ever ahead of its rate.
UPDATE incidents.pace
SET free_at = greatest(free_at, clock_timestamp() - make_interval(secs => :seconds)) + make_interval(secs => :seconds)
RETURNING extract(epoch FROM free_at - clock_timestamp()) AS wait_seconds
