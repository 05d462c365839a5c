-- The ledger cannot be emptied either. This keeps accidents out, as the trigger on UPDATE and DELETE does: whoever owns
-- the table can take triggers off. Tests empty all tables after each test; their connections, and nobody else's, say so.
CREATE FUNCTION metering_ledger_is_not_truncated() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('marketplace.allow_truncate', true) IS DISTINCT FROM 'on' THEN
        RAISE EXCEPTION 'the ledger is append-only: it cannot be truncated' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER ledger_is_not_truncated BEFORE TRUNCATE ON metering_ledgerentry
FOR EACH STATEMENT EXECUTE FUNCTION metering_ledger_is_not_truncated();
