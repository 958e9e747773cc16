UPDATE publication.windows SET content_rows = NULL, content_digest = NULL, content_columns = NULL, content_at = NULL
WHERE dataset = :dataset AND window_start = ANY (CAST(:window_starts AS timestamptz[]))
