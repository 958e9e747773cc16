UPDATE monitoring.signals SET cleared_at = now() WHERE signal_id = :signal_id AND cleared_at IS NULL
