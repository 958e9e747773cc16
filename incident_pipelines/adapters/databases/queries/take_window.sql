-- First statement of a publish: who we are, how to plan, and whether the window is ours.
SELECT set_config('application_name', :owner, true),
       set_config('TimeZone', 'UTC', true),
       set_config('work_mem', '64MB', true),
       -- Decoding is the dear part and the planner knows nothing of it: large windows shall use the second core.
       set_config('parallel_setup_cost', '500', true),
       set_config('parallel_tuple_cost', '0.01', true),
       pg_try_advisory_xact_lock(:lock_key) AS taken
