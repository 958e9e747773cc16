-- First minute of the unbroken history that ends at the given minute, or that minute if none ends there. What the live
-- service has taken over is not gone on with: it is finishing those sign-ups itself.
WITH RECURSIVE back AS (
    SELECT %(at)s::timestamptz AS minute
    UNION ALL
    SELECT m.minute
    FROM back JOIN simulation.minutes AS m
        ON m.seed = %(seed)s AND m.rate = %(rate)s AND m.minute = back.minute - interval '1 minute'
    WHERE NOT m.taken_over AND back.minute > %(earliest)s
)
SELECT min(minute) FROM back
