-- An application that has refused a case for good is not asked about it again.
SELECT key, outcome FROM incidents.salvaged WHERE salvage = :salvage AND state = 'refused' AND key = ANY (:keys)
