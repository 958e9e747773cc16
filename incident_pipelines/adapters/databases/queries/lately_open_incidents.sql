SELECT * FROM incidents.incidents
WHERE state NOT IN ('resolved', 'reviewed') OR resolved_at >= :since
ORDER BY number
