SELECT minute, sent, events, digests FROM simulation.minutes WHERE seed = %s AND rate = %s AND minute >= %s AND minute < %s
