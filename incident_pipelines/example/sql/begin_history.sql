INSERT INTO simulation.initial_history (only_one, first_minute) VALUES (true, %s) ON CONFLICT (only_one) DO NOTHING
