SELECT d FROM unnest(CAST(:datasets AS text[])) d WHERE to_regclass('marts.' || quote_ident(d)) IS NOT NULL
