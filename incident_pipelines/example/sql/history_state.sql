SELECT first_minute, handed_over_at IS NOT NULL FROM simulation.initial_history
