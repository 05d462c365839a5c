-- A published artefact never changes under its number, nor does how it answers.
CREATE OR REPLACE FUNCTION catalog_version_is_immutable() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (OLD.model_id, OLD.number, OLD.format, OLD.sha256, OLD.size_bytes, OLD.decoupled)
       IS DISTINCT FROM (NEW.model_id, NEW.number, NEW.format, NEW.sha256, NEW.size_bytes, NEW.decoupled) THEN
        RAISE EXCEPTION 'a model version is immutable: publish a new one' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
