-- What was decided about a window, by which rules, and for which run.
WITH stored AS (
    INSERT INTO publication.windows AS w (dataset, window_start, window_end, state, version, rows, changed_rows, duplicates,
        dead_letters, quarantined, failed_rules, owner, seconds, content_rows, content_digest, content_columns,
        content_at)
    VALUES (:dataset, :window_start, :window_end, :state, :version, :rows, :changed_rows, :duplicates,
        :dead_letters, :quarantined, CAST(:failed_rules AS text[]), :owner,
        extract(epoch FROM clock_timestamp() - now()), :content_rows, CAST(:content_digest AS numeric),
        CAST(:content_columns AS text[]), now())
    ON CONFLICT (dataset, window_start) DO UPDATE SET window_end = EXCLUDED.window_end, state = EXCLUDED.state,
        version = EXCLUDED.version, rows = EXCLUDED.rows, changed_rows = EXCLUDED.changed_rows,
        duplicates = EXCLUDED.duplicates, dead_letters = EXCLUDED.dead_letters, quarantined = EXCLUDED.quarantined,
        failed_rules = EXCLUDED.failed_rules, owner = EXCLUDED.owner, seconds = EXCLUDED.seconds,
        published_at = EXCLUDED.published_at,
        -- A refused window keeps what was published before, and so its digest.
        content_rows = CASE :state WHEN 'refused' THEN w.content_rows ELSE EXCLUDED.content_rows END,
        content_digest = CASE :state WHEN 'refused' THEN w.content_digest ELSE EXCLUDED.content_digest END,
        content_columns = CASE :state WHEN 'refused' THEN w.content_columns ELSE EXCLUDED.content_columns END,
        content_at = CASE :state WHEN 'refused' THEN w.content_at ELSE EXCLUDED.content_at END
), done AS (
    INSERT INTO publication.progress (root_run_id, dataset, window_start, version, changed_rows)
    SELECT CAST(:root_run_id AS text), :dataset, :window_start, :version, :changed_rows
    WHERE CAST(:root_run_id AS text) IS NOT NULL AND :state = 'published'
    ON CONFLICT (root_run_id, dataset, window_start) DO UPDATE SET version = EXCLUDED.version,
        changed_rows = EXCLUDED.changed_rows, done_at = EXCLUDED.done_at
), gone AS (
    DELETE FROM publication.checks
    WHERE dataset = :dataset AND window_start = :window_start AND rule <> ALL (CAST(:rules AS text[]))
)
INSERT INTO publication.checks (dataset, window_start, rule, passed, rows, unexpected, max_share, severity)
SELECT :dataset, :window_start, c.*
FROM unnest(CAST(:rules AS text[]), CAST(:passed AS boolean[]), CAST(:looked_at AS bigint[]),
            CAST(:unexpected AS bigint[]), CAST(:max_shares AS double precision[]), CAST(:severities AS text[])) AS c
ON CONFLICT (dataset, window_start, rule) DO UPDATE SET passed = EXCLUDED.passed, rows = EXCLUDED.rows,
    unexpected = EXCLUDED.unexpected, max_share = EXCLUDED.max_share, severity = EXCLUDED.severity,
    checked_at = EXCLUDED.checked_at
