SELECT events_per_second FROM incidents.capacities WHERE measured_at > :since ORDER BY measured_at DESC LIMIT 1
