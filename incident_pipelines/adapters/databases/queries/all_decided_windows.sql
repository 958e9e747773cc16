-- Windows that were published or refused at least once.
SELECT dataset, window_start FROM publication.windows
