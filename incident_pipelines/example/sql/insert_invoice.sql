INSERT INTO invoices (invoice_id, payment_id, registration_id, currency, amount, created_at)
VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT DO NOTHING
