UPDATE incidents.salvaged SET state = :state, outcome = :outcome, outcome_at = :now
WHERE salvage = :salvage AND key = :key
