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

-- Privileges that were taken away, each under the key of the action that wants it gone, so that they can be given back.
CREATE TABLE IF NOT EXISTS protection.revocations (
    key text NOT NULL,
    table_name text NOT NULL,
    -- Empty where the privilege is on the table as a whole.
    column_name text NOT NULL,
    -- Empty for PUBLIC.
    grantee text NOT NULL,
    privilege text NOT NULL,
    grantable boolean NOT NULL,
    revoked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    restored_at timestamptz,
    PRIMARY KEY (key, table_name, column_name, grantee, privilege)
);

CREATE OR REPLACE FUNCTION protection.data_table(table_name text) RETURNS oid
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found oid;
BEGIN
    SELECT c.oid INTO found FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname IN ('landing', 'raw', 'marts') AND n.nspname || '.' || c.relname = table_name AND c.relkind IN ('r', 'p');
    IF found IS NULL THEN
        RAISE EXCEPTION '% is no table of landing, raw or marts', table_name USING ERRCODE = 'undefined_table';
    END IF;
    RETURN found;
END
$$;

-- Who may do what with a table, its owner left out.
CREATE OR REPLACE FUNCTION protection.grants_on(relation oid)
RETURNS TABLE (column_name text, grantee text, privilege text, grantable boolean)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT g.column_name, coalesce(r.rolname::text, ''), g.privilege_type, bool_or(g.is_grantable)
    FROM pg_class c
    CROSS JOIN LATERAL (
        SELECT '' AS column_name, a.* FROM aclexplode(c.relacl) a
        UNION ALL
        SELECT t.attname::text, a.* FROM pg_attribute t CROSS JOIN LATERAL aclexplode(t.attacl) a
        WHERE t.attrelid = c.oid AND NOT t.attisdropped
    ) g
    LEFT JOIN pg_roles r ON r.oid = g.grantee
    WHERE c.oid = relation AND g.grantee <> c.relowner
    GROUP BY 1, 2, 3
$$;

-- Why nothing is ever taken from a role; NULL where it may be.
CREATE OR REPLACE FUNCTION protection.untouchable(role_name text, relation oid) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE
        WHEN role_name IN ('lander', 'publisher', 'planner', 'monitor') THEN role_name || ' is a role of the pipeline itself'
        WHEN r.rolsuper THEN role_name || ' is a superuser, who may do anything'
        WHEN r.oid = c.relowner OR r.rolname = current_user THEN role_name || ' owns the table'
        WHEN r.oid IS NULL THEN 'there is no role ' || role_name
    END
    FROM pg_class c LEFT JOIN pg_roles r ON r.rolname = role_name
    WHERE c.oid = relation
$$;

-- Takes privileges away in one statement and keeps under the key what is gone by it, and what another key took already.
CREATE OR REPLACE FUNCTION protection.take_away(
    action_key text, relation oid, role_name text, privileges text[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    full_name text;
BEGIN
    SELECT n.nspname || '.' || c.relname INTO full_name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = relation;
    INSERT INTO protection.revocations (key, table_name, column_name, grantee, privilege, grantable)
    SELECT action_key, full_name, g.column_name, g.grantee, g.privilege, g.grantable FROM protection.grants_on(relation) g
    ON CONFLICT DO NOTHING;
    EXECUTE format('REVOKE %s ON TABLE %s FROM %s CASCADE', array_to_string(privileges, ', '), relation::regclass,
                   CASE role_name WHEN '' THEN 'PUBLIC' ELSE quote_ident(role_name) END);
    DELETE FROM protection.revocations r USING protection.grants_on(relation) g
    WHERE r.key = action_key AND r.table_name = full_name
      AND (r.column_name, r.grantee, r.privilege) = (g.column_name, g.grantee, g.privilege);
    INSERT INTO protection.revocations (key, table_name, column_name, grantee, privilege, grantable)
    SELECT action_key, r.table_name, r.column_name, r.grantee, r.privilege, r.grantable FROM protection.revocations r
    WHERE r.table_name = full_name AND r.grantee = role_name AND r.restored_at IS NULL
      AND (privileges = '{ALL}' OR r.privilege = ANY (privileges))
    ON CONFLICT DO NOTHING;
END
$$;

-- What a key has taken away and not given back.
CREATE OR REPLACE FUNCTION protection.taken_by(action_key text) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(jsonb_agg(jsonb_build_object('table', r.table_name, 'column', r.column_name, 'grantee', r.grantee,
        'privilege', r.privilege) ORDER BY r.table_name, r.grantee, r.privilege, r.column_name), '[]')
    FROM protection.revocations r WHERE r.key = action_key AND r.restored_at IS NULL
$$;

-- Takes from a role the right to change a table; the same key again takes no more and says the same.
CREATE OR REPLACE FUNCTION protection.revoke_writes(action_key text, role_name text, table_name text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    relation oid := protection.data_table(table_name);
    reason text := protection.untouchable(role_name, relation);
    writes boolean := false;
BEGIN
    -- Any constant of our own: of two who take from one table the second has to see what the first took.
    PERFORM pg_advisory_xact_lock(471662596);
    IF reason IS NULL THEN
        PERFORM protection.take_away(action_key, relation, role_name, '{INSERT,UPDATE,DELETE,TRUNCATE}');
        writes := has_table_privilege(role_name, relation, 'INSERT, UPDATE, DELETE, TRUNCATE')
            OR has_any_column_privilege(role_name, relation, 'INSERT, UPDATE');
    END IF;
    RETURN jsonb_build_object('revoked', protection.taken_by(action_key), 'refused', reason, 'still_writes', writes);
END
$$;

-- Takes from everybody but the owner and the pipeline's roles all rights on some tables.
CREATE OR REPLACE FUNCTION protection.revoke_access(action_key text, table_names text[]) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    closed text;
    role_name text;
BEGIN
    PERFORM pg_advisory_xact_lock(471662596);
    FOREACH closed IN ARRAY table_names LOOP
        FOR role_name IN
            SELECT g.grantee FROM protection.grants_on(protection.data_table(closed)) g
            WHERE g.grantee NOT IN ('lander', 'publisher', 'planner', 'monitor')
            UNION
            SELECT r.grantee FROM protection.revocations r WHERE r.restored_at IS NULL AND r.table_name = closed
        LOOP
            PERFORM protection.take_away(action_key, protection.data_table(closed), role_name, '{ALL}');
        END LOOP;
    END LOOP;
    RETURN jsonb_build_object('revoked', protection.taken_by(action_key), 'refused', NULL, 'still_writes', false);
END
$$;

-- Gives back what a key has taken, unless another key wants it gone as well. Nothing else can be given with it.
CREATE OR REPLACE FUNCTION protection.restore_privileges(action_key text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    taken record;
    restored jsonb := '[]';
BEGIN
    PERFORM pg_advisory_xact_lock(471662596);
    FOR taken IN
        UPDATE protection.revocations r SET restored_at = clock_timestamp()
        WHERE r.key = action_key AND r.restored_at IS NULL
        RETURNING r.*
    LOOP
        CONTINUE WHEN to_regclass(quote_ident(split_part(taken.table_name, '.', 1)) || '.'
                                  || quote_ident(split_part(taken.table_name, '.', 2))) IS NULL
            OR (taken.grantee <> '' AND NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = taken.grantee))
            OR EXISTS (
                SELECT FROM protection.revocations r WHERE r.key <> action_key AND r.restored_at IS NULL
                  AND (r.table_name, r.column_name, r.grantee, r.privilege)
                    = (taken.table_name, taken.column_name, taken.grantee, taken.privilege));
        EXECUTE format('GRANT %s%s ON TABLE %s TO %s%s', taken.privilege,
            CASE taken.column_name WHEN '' THEN '' ELSE format(' (%I)', taken.column_name) END,
            protection.data_table(taken.table_name)::regclass,
            CASE taken.grantee WHEN '' THEN 'PUBLIC' ELSE quote_ident(taken.grantee) END,
            CASE WHEN taken.grantable THEN ' WITH GRANT OPTION' ELSE '' END);
        restored := restored || jsonb_build_object('table', taken.table_name, 'column', taken.column_name,
            'grantee', taken.grantee, 'privilege', taken.privilege);
    END LOOP;
    RETURN restored;
END
$$;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA protection FROM PUBLIC;
