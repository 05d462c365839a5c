-- Admission, settlement and release of many calls in one transaction and one round trip. Arrays run in parallel; answers
-- come in the order of the questions.
-- Locks, everywhere: quotas by id, then holds by id, then idempotency keys by tenant and key, then the ledger.
-- Plans are fixed (index scans in nested loops; OFFSET 0 and scalar subqueries keep lookups by key what they are): a batch
-- has few rows, the tables may have millions, and statistics taken while they were empty must not decide.
-- lock_timeout: somebody who sits on one tenant's row must not keep the whole batch; its calls are then asked one by one.

DROP FUNCTION metering_admit(uuid, uuid, uuid, uuid, uuid, numeric, text, bytea, double precision);
DROP FUNCTION metering_settle(uuid, numeric, double precision, bytea, double precision);
DROP FUNCTION metering_release_expired(int);
DROP FUNCTION metering_release(uuid, text);

-- Ids of the current periods' quotas for these callers, in order. Makes those that the period has not had yet.
CREATE FUNCTION metering_quotas(p_tenants uuid[], p_versions uuid[], p_moment timestamptz) RETURNS bigint[]
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_material = off SET enable_bitmapscan = off SET plan_cache_mode = force_generic_plan
SET lock_timeout = '200ms' AS $$
DECLARE
    quotas bigint[];
    absent uuid[];
BEGIN
    FOR attempt IN 1..2 LOOP
        SELECT array_agg(q.id ORDER BY q.id) FILTER (WHERE q.id IS NOT NULL), array_agg(c.id ORDER BY c.id) FILTER (WHERE q.id IS NULL)
          INTO quotas, absent
          FROM (SELECT DISTINCT s.id, s.created_at
                  FROM (SELECT DISTINCT * FROM unnest(p_tenants, p_versions) AS asked (tenant, version)) AS asked
                  JOIN catalog_modelversion v ON v.id = asked.version
                  JOIN LATERAL (
                      SELECT * FROM subscriptions_modelsubscription s
                       WHERE s.tenant_id = asked.tenant AND s.model_id = v.model_id OFFSET 0) AS s ON true) AS c
         CROSS JOIN LATERAL metering_period(c.created_at, p_moment) AS period
          LEFT JOIN metering_quota q ON q.model_subscription_id = c.id AND q.period_start = period.period_start;
        EXIT WHEN absent IS NULL OR attempt = 2;
        INSERT INTO metering_quota (model_subscription_id, period_start, period_end, unit_limit, theoretical_arrival)
        SELECT s.id, period.period_start, period.period_end, metering_limit(p.included_units, p.overage_price),
               (SELECT max(theoretical_arrival) FROM metering_quota WHERE model_subscription_id = s.id)
          FROM subscriptions_modelsubscription s JOIN subscriptions_plan p ON p.id = s.plan_id
         CROSS JOIN LATERAL metering_period(s.created_at, p_moment) AS period
         WHERE s.id = ANY (absent) ORDER BY s.id
        ON CONFLICT DO NOTHING;
    END LOOP;
    RETURN coalesce(quotas, '{}');
END $$;

-- With a role or a reference, the caller goes by what it remembers of its key and of the version: `moved`, ahead of all else,
-- unless the key still has that role and the reference still names that version to that tenant.
-- outcome: moved | admitted | replay | in_progress | idempotency_conflict | key_invalid | not_a_member | not_callable
--        | no_subscription | suspended | rate_limited | quota_exceeded
CREATE FUNCTION metering_admit(
    p_holds uuid[], p_tenants uuid[], p_api_keys uuid[], p_users uuid[], p_versions uuid[], p_units numeric[],
    p_idempotency_keys text[], p_digests bytea[], p_seconds double precision[], p_roles text[], p_refs text[], p_numbers int[]
) RETURNS TABLE (outcome text, hold_id uuid, unit_limit numeric, remaining numeric, resets_at timestamptz, retry_after_ms int)
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_material = off SET enable_bitmapscan = off SET plan_cache_mode = force_generic_plan
SET lock_timeout = '200ms' AS $$
#variable_conflict use_column
DECLARE
    moment timestamptz;
    quotas bigint[];
    used numeric[];
    limits numeric[];
    arrivals timestamptz[];
    touched boolean[];
    -- Per question.
    outcomes text[];
    holds uuid[];
    taken_from bigint[];
    most numeric[];
    left_over numeric[];
    resets timestamptz[];
    waits int[];
    claimed int[];
    r record;
    n int;
    earlier int;
    step interval;
    due timestamptz;
    broken text;
BEGIN
    quotas := metering_quotas(p_tenants, p_versions, clock_timestamp());
    PERFORM FROM metering_quota WHERE id = ANY (quotas) ORDER BY id FOR UPDATE;
    LOOP
        -- Read behind the locks: whatever committed while this call waited for them holds for it.
        moment := clock_timestamp();
        SELECT array_agg(q.settled + q.held ORDER BY q.id), array_agg(q.unit_limit ORDER BY q.id),
               array_agg(q.theoretical_arrival ORDER BY q.id), array_agg(false)
          INTO used, limits, arrivals, touched FROM metering_quota q WHERE q.id = ANY (quotas);
        outcomes := array_fill(NULL::text, ARRAY[cardinality(p_holds)]);
        holds := p_holds;
        taken_from := array_fill(NULL::bigint, ARRAY[cardinality(p_holds)]);
        most := array_fill(NULL::numeric, ARRAY[cardinality(p_holds)]);
        left_over := most;
        resets := array_fill(NULL::timestamptz, ARRAY[cardinality(p_holds)]);
        waits := array_fill(NULL::int, ARRAY[cardinality(p_holds)]);
        claimed := '{}';
        FOR r IN
            SELECT a.*, v.status IN ('READY', 'LIVE') AND (v.released_at IS NOT NULL OR m.publisher_id = a.tenant) AS is_callable,
                   m.publisher_id = a.tenant AS is_own, s.status, p.included_units, p.overage_price, p.requests_per_second, p.burst,
                   q.id AS quota, array_position(quotas, q.id) AS i, q.period_end,
                   a.api_key IS NULL OR (
                       SELECT true FROM tenants_apikey k WHERE k.id = a.api_key AND k.tenant_id = a.tenant AND k.revoked_at IS NULL
                          AND (k.expires_at IS NULL OR k.expires_at > moment)) IS TRUE AS key_is_valid,
                   a.person IS NULL OR (
                       SELECT true FROM tenants_membership b JOIN tenants_user u ON u.id = b.user_id
                        WHERE b.tenant_id = a.tenant AND b.user_id = a.person AND u.is_active) IS TRUE AS is_member,
                   a.role IS NULL OR (SELECT k.role = a.role FROM tenants_apikey k WHERE k.id = a.api_key) IS TRUE AS has_role,
                   -- The conditions of callable_version (inference/versions.py), with those of is_callable.
                   a.ref IS NULL OR (
                       SELECT publisher.slug || '/' || m.name = a.ref
                              AND CASE WHEN a.number IS NULL THEN v.status = 'LIVE' ELSE v.number = a.number END
                              AND (m.publisher_id = a.tenant OR m.visibility = 'PUBLIC' OR EXISTS (
                                  SELECT FROM catalog_mlmodelgroupobjectpermission granted
                                    JOIN auth_permission permission ON permission.id = granted.permission_id
                                    JOIN tenants_tenant consumer ON consumer.group_id = granted.group_id
                                   WHERE granted.content_object_id = m.id AND consumer.id = a.tenant AND permission.codename = 'use_mlmodel'))
                         FROM tenants_tenant publisher WHERE publisher.id = m.publisher_id) IS TRUE AS is_named,
                   known.id AS known, known.state AS known_state, known.request_digest AS known_digest
              FROM unnest(p_holds, p_tenants, p_api_keys, p_users, p_versions, p_units, p_idempotency_keys, p_digests, p_roles, p_refs,
                          p_numbers)
                   WITH ORDINALITY AS a (hold, tenant, api_key, person, version, units, idempotency_key, digest, role, ref, number, position)
              LEFT JOIN catalog_modelversion v ON v.id = a.version
              LEFT JOIN catalog_mlmodel m ON m.id = v.model_id
              LEFT JOIN LATERAL (
                  SELECT * FROM subscriptions_modelsubscription s WHERE s.tenant_id = a.tenant AND s.model_id = v.model_id OFFSET 0) AS s ON true
              LEFT JOIN subscriptions_plan p ON p.id = s.plan_id
              LEFT JOIN metering_quota q ON q.model_subscription_id = s.id AND q.id = ANY (quotas)
              LEFT JOIN LATERAL (
                  SELECT h.id, h.state, h.request_digest FROM metering_hold h
                   WHERE a.idempotency_key IS NOT NULL
                     AND h.tenant_id = a.tenant AND h.idempotency_key = a.idempotency_key AND h.state <> 'released' OFFSET 0) AS known ON true
             ORDER BY a.position
        LOOP
            n := r.position;
            IF (r.role IS NOT NULL OR r.ref IS NOT NULL)
               AND (r.key_is_valid AND r.is_member AND r.has_role AND r.is_named AND r.is_callable) IS NOT TRUE THEN
                outcomes[n] := 'moved';
                CONTINUE;
            ELSIF NOT r.key_is_valid THEN
                outcomes[n] := 'key_invalid';
                CONTINUE;
            ELSIF NOT r.is_member THEN
                outcomes[n] := 'not_a_member';
                CONTINUE;
            ELSIF r.known IS NOT NULL THEN
                holds[n] := r.known;
                outcomes[n] := CASE WHEN r.known_digest IS DISTINCT FROM r.digest THEN 'idempotency_conflict'
                                    WHEN r.known_state = 'settled' THEN 'replay'
                                    ELSE 'in_progress' END;
                CONTINUE;
            END IF;
            IF r.idempotency_key IS NOT NULL THEN
                SELECT c INTO earlier FROM unnest(claimed) AS c
                 WHERE p_tenants[c] = r.tenant AND p_idempotency_keys[c] = r.idempotency_key;
                IF FOUND THEN
                    holds[n] := p_holds[earlier];
                    outcomes[n] := CASE WHEN p_digests[earlier] IS DISTINCT FROM r.digest THEN 'idempotency_conflict'
                                        ELSE 'in_progress' END;
                    CONTINUE;
                END IF;
            END IF;
            IF r.is_callable IS NOT TRUE THEN
                outcomes[n] := 'not_callable';
                CONTINUE;
            END IF;
            IF NOT r.is_own THEN
                IF r.status IS DISTINCT FROM 'ACTIVE' THEN
                    outcomes[n] := CASE r.status WHEN 'SUSPENDED' THEN 'suspended' ELSE 'no_subscription' END;
                    CONTINUE;
                END IF;
                IF r.quota IS NULL THEN
                    -- Subscribed while this call waited for the locks of others: from the next call on.
                    outcomes[n] := 'no_subscription';
                    CONTINUE;
                END IF;
                -- The rate limit is GCRA (ITU-T I.371).
                step := interval '1 second' / r.requests_per_second;
                due := greatest(arrivals[r.i], moment);
                IF due - moment > step * (r.burst - 1) THEN
                    outcomes[n] := 'rate_limited';
                    waits[n] := ceil(extract(epoch FROM due - moment - step * (r.burst - 1)) * 1000);
                    CONTINUE;
                END IF;
                -- A smaller plan never takes back what is already used.
                limits[r.i] := greatest(metering_limit(r.included_units, r.overage_price), used[r.i]);
                IF used[r.i] + r.units > limits[r.i] THEN
                    outcomes[n] := 'quota_exceeded';
                    most[n] := limits[r.i];
                    left_over[n] := limits[r.i] - used[r.i];
                    resets[n] := r.period_end;
                    CONTINUE;
                END IF;
                used[r.i] := used[r.i] + r.units;
                arrivals[r.i] := due + step;
                touched[r.i] := true;
                taken_from[n] := r.quota;
            END IF;
            outcomes[n] := 'admitted';
            IF r.idempotency_key IS NOT NULL THEN
                claimed := claimed || n;
            END IF;
        END LOOP;

        BEGIN
            INSERT INTO metering_hold (id, tenant_id, version_id, quota_id, api_key_id, user_id, idempotency_key, request_digest,
                                       units, created_at, expires_at)
            SELECT hold, tenant, version, quota, api_key, person, idempotency_key, digest, units, moment, moment + make_interval(secs => seconds)
              FROM unnest(p_holds, p_tenants, p_versions, taken_from, p_api_keys, p_users, p_idempotency_keys, p_digests, p_units,
                          p_seconds, outcomes)
                   AS a (hold, tenant, version, quota, api_key, person, idempotency_key, digest, units, seconds, outcome)
             WHERE outcome = 'admitted' ORDER BY tenant, idempotency_key;
            EXIT;
        EXCEPTION WHEN unique_violation THEN
            GET STACKED DIAGNOSTICS broken = CONSTRAINT_NAME;
            IF broken <> 'one_hold_per_idempotency_key' THEN
                RAISE;
            END IF;
            -- Another process's call with one of these keys came first: decide anew, with it in sight.
        END;
    END LOOP;

    UPDATE metering_quota q SET unit_limit = a.most, held = a.used - q.settled, theoretical_arrival = a.arrival
      FROM unnest(quotas, limits, used, arrivals, touched) AS a (id, most, used, arrival, touched)
     WHERE q.id = a.id AND a.touched;
    RETURN QUERY SELECT a.* FROM unnest(outcomes, holds, most, left_over, resets, waits) AS a (o, h, m, l, t, w);
END $$;

-- Charges holds. False for one that is no longer held: what it stood for has been given back and must not be delivered.
CREATE FUNCTION metering_settle(
    p_holds uuid[], p_units numeric[], p_latencies double precision[], p_answers bytea[],
    p_answer_digests bytea[], p_answer_seconds double precision
) RETURNS boolean[] LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_material = off SET enable_bitmapscan = off SET plan_cache_mode = force_generic_plan
SET lock_timeout = '200ms' AS $$
DECLARE
    moment timestamptz;
    answers boolean[];
BEGIN
    PERFORM metering_lock_holds(p_holds);
    moment := clock_timestamp();
    WITH asked AS (
        SELECT * FROM unnest(p_holds, p_units, p_latencies, p_answers, p_answer_digests)
               WITH ORDINALITY AS a (hold, units, latency, answer, answer_digest, position)
    ), done AS (
        UPDATE metering_hold h SET state = 'settled', charged = a.units, finished_at = moment, latency_ms = a.latency,
               answer_digest = a.answer_digest
          FROM asked a WHERE h.id = a.hold AND h.state = 'held'
        RETURNING h.id, h.tenant_id, h.version_id, h.quota_id, h.units AS held, a.units, a.answer, a.position
    ), priced AS (
        -- What each adds to the price of the period's overage, in the order of the batch.
        SELECT d.*, m.publisher_id, coalesce(p.currency, 'USD') AS currency,
               coalesce(p.overage_price * (greatest(d.used + d.units - p.included_units, 0) - greatest(d.used - p.included_units, 0)), 0) AS amount
          FROM (SELECT done.*, q.model_subscription_id,
                       q.settled + sum(done.units) OVER (PARTITION BY done.quota_id ORDER BY done.position) - done.units AS used
                  FROM done LEFT JOIN metering_quota q ON q.id = done.quota_id) AS d
          JOIN catalog_modelversion v ON v.id = d.version_id
          JOIN catalog_mlmodel m ON m.id = v.model_id
          LEFT JOIN subscriptions_modelsubscription s ON s.id = d.model_subscription_id
          LEFT JOIN subscriptions_plan p ON p.id = s.plan_id
    ), moved AS (
        UPDATE metering_quota q SET held = q.held - t.held, settled = q.settled + t.units
          FROM (SELECT quota_id, sum(held) AS held, sum(units) AS units FROM done GROUP BY quota_id) AS t WHERE q.id = t.quota_id
    ), entered AS (
        INSERT INTO metering_ledgerentry (hold_id, kind, account, tenant_id, units, amount, currency, created_at)
        SELECT d.id, 'charge', side.account, CASE side.sign WHEN -1 THEN d.tenant_id ELSE d.publisher_id END,
               side.sign * d.units, side.sign * d.amount, d.currency, moment
          FROM priced d CROSS JOIN (VALUES ('consumer', -1), ('publisher', 1)) AS side (account, sign) ORDER BY d.position, side.sign
    ), kept AS (
        INSERT INTO metering_storedanswer (hold_id, content, expires_at)
        SELECT d.id, d.answer, moment + make_interval(secs => p_answer_seconds) FROM done d WHERE d.answer IS NOT NULL
    )
    SELECT array_agg(a.position = ANY (ARRAY(SELECT position FROM done)) ORDER BY a.position) INTO answers FROM asked a;
    RETURN answers;
END $$;

-- Gives holds' units back. False for one that was no longer held.
CREATE FUNCTION metering_release(p_holds uuid[], p_because text[]) RETURNS boolean[] LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_material = off SET enable_bitmapscan = off SET plan_cache_mode = force_generic_plan
SET lock_timeout = '200ms' AS $$
DECLARE
    answers boolean[];
BEGIN
    PERFORM metering_lock_holds(p_holds);
    WITH asked AS (
        SELECT * FROM unnest(p_holds, p_because) WITH ORDINALITY AS a (hold, because, position)
    ), done AS (
        UPDATE metering_hold h SET state = 'released', released_because = a.because, finished_at = clock_timestamp()
          FROM asked a WHERE h.id = a.hold AND h.state = 'held'
        RETURNING h.id, h.quota_id, h.units, a.position
    ), moved AS (
        UPDATE metering_quota q SET held = q.held - t.units
          FROM (SELECT quota_id, sum(units) AS units FROM done GROUP BY quota_id) AS t WHERE q.id = t.quota_id
    )
    SELECT array_agg(a.position = ANY (ARRAY(SELECT position FROM done)) ORDER BY a.position) INTO answers FROM asked a;
    RETURN answers;
END $$;

-- Locks what a settle or release is about to change: quotas by id, then holds by id.
CREATE FUNCTION metering_lock_holds(p_holds uuid[]) RETURNS void LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_material = off SET enable_bitmapscan = off SET plan_cache_mode = force_generic_plan
SET lock_timeout = '200ms' AS $$
BEGIN
    PERFORM FROM metering_quota WHERE id = ANY (ARRAY(SELECT quota_id FROM metering_hold WHERE id = ANY (p_holds))) ORDER BY id FOR UPDATE;
    PERFORM FROM metering_hold WHERE id = ANY (p_holds) ORDER BY id FOR NO KEY UPDATE;
END $$;

-- Gives back what nobody came to settle; returns how many.
CREATE FUNCTION metering_release_expired(p_most int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    expired uuid[] := ARRAY(SELECT id FROM metering_hold WHERE state = 'held' AND expires_at < clock_timestamp() ORDER BY expires_at LIMIT p_most);
BEGIN
    RETURN (SELECT count(*) FILTER (WHERE done) FROM unnest(metering_release(expired, array_fill('EXPIRED'::text, ARRAY[cardinality(expired)]))) AS done);
END $$;
