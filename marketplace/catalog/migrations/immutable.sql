-- A published artefact never changes under its number, nor does how it answers. While it is being checked, the checks may
-- still convert it.
CREATE OR REPLACE FUNCTION catalog_version_is_immutable() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (OLD.model_id, OLD.number) IS DISTINCT FROM (NEW.model_id, NEW.number)
       OR OLD.status NOT IN ('DRAFT', 'VALIDATING')
          AND (OLD.format, OLD.sha256, OLD.size_bytes, OLD.decoupled, OLD.source_format, OLD.source_sha256)
              IS DISTINCT FROM (NEW.format, NEW.sha256, NEW.size_bytes, NEW.decoupled, NEW.source_format, NEW.source_sha256) THEN
        RAISE EXCEPTION 'a model version is immutable: publish a new one' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION catalog_history_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the history of releases is append-only' USING ERRCODE = 'restrict_violation';
END $$;

-- Who and what an event was about may be forgotten with them (ON DELETE), nothing else changes.
CREATE TRIGGER history_is_append_only BEFORE UPDATE OF kind, percent, reason, at, model_id ON catalog_releaseevent
FOR EACH ROW EXECUTE FUNCTION catalog_history_is_append_only();
