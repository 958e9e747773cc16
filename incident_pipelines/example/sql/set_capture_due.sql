UPDATE payments SET capture_due_at = %s WHERE registration_id = %s AND status = 'authorized'
