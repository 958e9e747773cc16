DELETE FROM outbox_unpublished WHERE lane = %s AND position = ANY(%s)
