-- How many cases of an incident, or of none, ended how; of one salvage, or of all.
SELECT state, count(*) AS cases FROM incidents.salvaged
WHERE (CAST(:salvage AS text) IS NULL OR salvage = :salvage) AND incident_id IS NOT DISTINCT FROM :incident_id
GROUP BY state
