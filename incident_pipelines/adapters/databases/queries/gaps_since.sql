SELECT contract AS dataset, topic, partition, from_offset, to_offset, last_landed_at, detected_at
FROM landing.gaps WHERE contract = ANY (CAST(:datasets AS text[])) AND detected_at >= :since ORDER BY gap_id
