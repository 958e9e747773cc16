UPDATE simulation.initial_history SET handed_over_at = clock_timestamp()
