-- Marks on a window, what was decided about it last, and whether quarantine has to be looked at.
SELECT coalesce((SELECT version FROM publication.inputs
                 WHERE dataset = :dataset AND window_start = :window_start), 0) AS marks,
       (SELECT version FROM publication.windows
        WHERE dataset = :dataset AND window_start = :window_start AND state = 'refused') AS refused_version,
       EXISTS (SELECT 1 FROM landing.quarantine
               WHERE contract = :dataset AND window_start = :window_start) AS has_quarantine,
       EXISTS (SELECT 1 FROM landing.quarantine
               WHERE contract = :dataset AND window_start <> :window_start) AS others_have_quarantine
