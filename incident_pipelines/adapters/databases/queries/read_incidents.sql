SELECT * FROM incidents.incidents
WHERE (CAST(:only_open AS boolean) IS NOT TRUE OR state NOT IN ('resolved', 'reviewed'))
ORDER BY number
