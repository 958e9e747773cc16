ANALYZE present
