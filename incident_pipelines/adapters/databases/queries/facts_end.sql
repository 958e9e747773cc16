-- Every transaction below this one has ended: of what it wrote, nothing will appear any more.
SELECT CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS numeric)
