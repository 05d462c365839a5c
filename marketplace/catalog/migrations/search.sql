-- Immutable, so that generated columns may use them: array_to_string and unqualified to_tsvector are only stable.
CREATE EXTENSION IF NOT EXISTS pg_trgm;

CREATE FUNCTION catalog_search_text(name text, display_name text, tags text[], summary text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT lower(concat_ws(' ', name, display_name, array_to_string(tags, ' '), summary))
$$;

CREATE FUNCTION catalog_search_vector(name text, display_name text, tags text[], summary text, card text) RETURNS tsvector
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT setweight(to_tsvector('pg_catalog.english', concat_ws(' ', name, display_name, array_to_string(tags, ' '))), 'A')
        || setweight(to_tsvector('pg_catalog.english', coalesce(summary, '')), 'B')
        || setweight(to_tsvector('pg_catalog.english', left(coalesce(card, ''), 100000)), 'D')
$$;
