SELECT protection.restore_privileges(:key) AS restored
