-- Readers see the service's tables and nothing else; a database without that role is used by its owner alone.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'source_reader') THEN
        GRANT USAGE ON SCHEMA public TO source_reader;
        GRANT SELECT ON ALL TABLES IN SCHEMA public TO source_reader;
        ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO source_reader;
    END IF;
END
$$;
