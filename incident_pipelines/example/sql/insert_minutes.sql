INSERT INTO simulation.minutes (seed, rate, minute, sent, events, digests) VALUES (%s, %s, %s, %s, %s, %s)
