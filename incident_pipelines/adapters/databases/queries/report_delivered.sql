UPDATE incidents.reports SET delivered = array_append(delivered, :address)
WHERE incident_id = :incident_id AND name = :name AND basis = :basis AND NOT :address = ANY (delivered)
