SELECT state, count(*) AS cases FROM incidents.salvaged
WHERE salvage = :salvage AND incident_id IS NOT DISTINCT FROM :incident_id GROUP BY state
