-- Who changed how much of the published tables, and the refusal of statements that touch too much of one. Idempotent.
CREATE SCHEMA IF NOT EXISTS protection;

-- Written by the triggers alone, with the rights of its owner: nobody else may change it.
CREATE TABLE IF NOT EXISTS protection.changes (
    change_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    table_name text NOT NULL,
    statement text NOT NULL CHECK (statement IN ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE')),
    rows bigint NOT NULL,
    user_name text NOT NULL,
    application_name text NOT NULL,
    client_address inet,
    -- The session had confirmed changes past the share.
    confirmed boolean NOT NULL,
    -- Window that the session said it was publishing.
    publishing text,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    xid xid8 NOT NULL DEFAULT pg_current_xact_id()
);
CREATE INDEX IF NOT EXISTS changes_outside ON protection.changes (table_name, changed_at) WHERE publishing IS NULL;

-- Arguments: the share of the table (0 to 1) that one statement may touch, and a number of rows that it always may.
CREATE OR REPLACE FUNCTION protection.record_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    table_name text := TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME;
    confirmed boolean := coalesce(current_setting('incident_pipelines.confirmed', true), '') = table_name;
    share numeric := TG_ARGV[0];
    touched bigint;
    total bigint;
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        -- Of a large table the statistics do: nobody can work with it while its rows are counted.
        EXECUTE format('SELECT count(*) FROM (SELECT 1 FROM %I.%I LIMIT 1000000) r', TG_TABLE_SCHEMA, TG_TABLE_NAME)
            INTO touched;
        IF touched = 1000000 THEN
            SELECT greatest(touched, reltuples::bigint) INTO touched FROM pg_class WHERE oid = TG_RELID;
        END IF;
        total := touched;
    ELSE
        SELECT count(*) INTO touched FROM touched_rows;
        IF TG_OP <> 'INSERT' AND NOT confirmed AND touched > TG_ARGV[1]::bigint AND share < 1 THEN
            -- Rows are counted only up to the number from which the share is kept, not in the whole of a large table.
            EXECUTE format('SELECT count(*) FROM (SELECT 1 FROM %I.%I LIMIT %s) r', TG_TABLE_SCHEMA, TG_TABLE_NAME,
                           coalesce(ceil(touched / nullif(share, 0))::text, 'ALL')) INTO total;
            total := total + CASE TG_OP WHEN 'DELETE' THEN touched ELSE 0 END;
        END IF;
    END IF;
    IF TG_OP <> 'INSERT' AND NOT confirmed AND touched > TG_ARGV[1]::bigint AND touched > share * total THEN
        RAISE EXCEPTION '% was about to touch % of % rows of % (% %%), and one statement may touch % %% of them: nothing was changed',
            TG_OP, touched, total, table_name, round(100.0 * touched / total, 2), trim_scale(share * 100)
            USING HINT = format('If it is meant, say so in this session and do it again: SET incident_pipelines.confirmed = %L',
                                table_name);
    END IF;
    IF touched > 0 THEN
        INSERT INTO protection.changes (table_name, statement, rows, user_name, application_name, client_address,
            confirmed, publishing)
        VALUES (table_name, TG_OP, touched, session_user, coalesce(current_setting('application_name', true), ''),
            inet_client_addr(), confirmed, nullif(current_setting('incident_pipelines.publishing', true), ''));
    END IF;
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION protection.record_change() FROM PUBLIC;
