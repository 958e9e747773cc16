-- What publishing left in each window, or in one.
SELECT dataset, window_start, window_end, coalesce(content_at, published_at) AS published_at, owner, content_rows, content_digest, content_columns
FROM publication.windows
WHERE dataset = ANY (CAST(:datasets AS text[]))
  AND (CAST(:window_start AS timestamptz) IS NULL OR window_start = :window_start)
