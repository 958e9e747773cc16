-- Whoever holds the row reads on; a second reader waits for it and then sees how far the first one came.
SELECT xid FROM monitoring.cursors WHERE name = :name FOR UPDATE
