GRANT USAGE ON SCHEMA monitoring TO monitor, publisher;
GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA monitoring TO monitor;
GRANT SELECT ON ALL TABLES IN SCHEMA monitoring TO publisher;
