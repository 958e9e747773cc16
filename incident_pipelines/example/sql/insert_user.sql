INSERT INTO users (user_id, email, region, created_at) VALUES (%s, %s, %s, %s)
