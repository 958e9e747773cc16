DELETE FROM sign_up_flows WHERE registration_id = %s
