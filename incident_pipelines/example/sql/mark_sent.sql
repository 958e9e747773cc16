UPDATE simulation.minutes SET sent = true WHERE seed = %s AND rate = %s AND minute >= %s AND minute < %s
