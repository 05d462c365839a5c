-- Admission, settlement and release of many calls in one transaction and one round trip. Arrays run in parallel; answers
-- come in the order of the questions.
-- Locks, everywhere: quotas by id, budgets' spendings by id, holds by id, idempotency keys by tenant and key, the ledger.
-- Plans are fixed (index scans in nested loops; OFFSET 0 and scalar subqueries keep lookups by key what they are): a batch
-- has few rows, the tables may have millions, and statistics taken while they were empty must not decide.
-- What is called from another function here inherits its settings.
-- Holds are found among the batch's own (= ANY), and their states are asked for by CASE: from any other words PostgreSQL may
-- conclude that a partial index has them, and read that from end to end where statistics make it look small.
-- The time at which a hold finishes is taken when its table is locked already: whoever counts what has finished (usage
-- reconciliation) relies on it.
-- Migrations run this file anew whenever it has changed.
-- lock_timeout: somebody who sits on one tenant's row must not keep the whole batch; its calls are then asked one by one.

DROP FUNCTION IF EXISTS metering_admit(uuid, uuid, uuid, uuid, uuid, numeric, text, bytea, double precision);
DROP FUNCTION IF EXISTS metering_settle(uuid, numeric, double precision, bytea, double precision);
DROP FUNCTION IF EXISTS metering_release_expired(int);
DROP FUNCTION IF EXISTS metering_release(uuid, text);

-- What a plan allows in a period: with an overage price, as much as can be counted, of units and of money (the sum of two
-- periods that meet in a day is counted, too: at most 15 digits before the point).
CREATE OR REPLACE FUNCTION metering_limit(included numeric, overage_price numeric) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN overage_price IS NULL THEN included ELSE least(1e15, included + 4e14 / nullif(overage_price, 0)) END
$$;

-- The plan whose terms hold in a period that begins then: the one that the tenant chose, or what its publisher has made of it by
-- then. It depends on the contract and the period alone: a call has the terms of the period whose quota it is counted in, however
-- many periods end and plans change while it is being admitted.
CREATE OR REPLACE FUNCTION metering_terms(p_plan uuid, p_period_start timestamptz) RETURNS uuid LANGUAGE plpgsql STABLE AS $$
DECLARE
    terms uuid := p_plan;
    later uuid;
BEGIN
    LOOP
        SELECT successor_id INTO later FROM subscriptions_plan WHERE id = terms AND successor_from <= p_period_start;
        EXIT WHEN later IS NULL;
        terms := later;
    END LOOP;
    RETURN terms;
END $$;

-- Ids of the current periods' quotas for these callers, in order. Makes those that the period has not had yet.
CREATE OR REPLACE FUNCTION metering_quotas(p_tenants uuid[], p_versions uuid[], p_moment timestamptz) RETURNS bigint[]
LANGUAGE plpgsql AS $$
DECLARE
    quotas bigint[];
    absent uuid[];
BEGIN
    FOR attempt IN 1..2 LOOP
        SELECT array_agg(q.id ORDER BY q.id) FILTER (WHERE q.id IS NOT NULL), array_agg(c.id ORDER BY c.id) FILTER (WHERE q.id IS NULL)
          INTO quotas, absent
          FROM (SELECT DISTINCT s.id
                  FROM (SELECT DISTINCT * FROM unnest(p_tenants, p_versions) AS asked (tenant, version)) AS asked
                  JOIN catalog_modelversion v ON v.id = asked.version
                  JOIN LATERAL (
                      SELECT * FROM subscriptions_modelsubscription s
                       WHERE s.tenant_id = asked.tenant AND s.model_id = v.model_id OFFSET 0) AS s ON true) AS c
          LEFT JOIN metering_quota q ON q.model_subscription_id = c.id AND q.period_start <= p_moment AND q.period_end > p_moment;
        EXIT WHEN absent IS NULL OR attempt = 2;
        INSERT INTO metering_quota (model_subscription_id, period_start, period_end, unit_limit, theoretical_arrival)
        SELECT s.id, period.period_start, period.period_end, metering_limit(p.included_units, p.overage_price),
               (SELECT max(theoretical_arrival) FROM metering_quota WHERE model_subscription_id = s.id)
          FROM subscriptions_modelsubscription s
         CROSS JOIN LATERAL metering_period(s.created_at, p_moment) AS period
          JOIN subscriptions_plan p ON p.id = metering_terms(s.plan_id, period.period_start)
         WHERE s.id = ANY (absent) ORDER BY s.id
        ON CONFLICT DO NOTHING;
    END LOOP;
    RETURN coalesce(quotas, '{}');
END $$;

-- Ids of this month's spendings of these tenants' and keys' budgets, in order. Makes those that the month has not had yet.
CREATE OR REPLACE FUNCTION metering_spendings(p_tenants uuid[], p_api_keys uuid[], p_moment timestamptz) RETURNS bigint[]
LANGUAGE plpgsql AS $$
DECLARE
    month timestamp := date_trunc('month', p_moment AT TIME ZONE 'UTC');
    spendings bigint[];
    absent bigint[];
BEGIN
    FOR attempt IN 1..2 LOOP
        SELECT array_agg(s.id ORDER BY s.id) FILTER (WHERE s.id IS NOT NULL), array_agg(b.id ORDER BY b.id) FILTER (WHERE s.id IS NULL)
          INTO spendings, absent
          FROM metering_budget b
          LEFT JOIN metering_spending s ON s.budget_id = b.id AND s.period_start = month AT TIME ZONE 'UTC'
         WHERE b.tenant_id = ANY (p_tenants) AND b.amount IS NOT NULL AND (b.api_key_id IS NULL OR b.api_key_id = ANY (p_api_keys));
        EXIT WHEN absent IS NULL OR attempt = 2;
        INSERT INTO metering_spending (budget_id, period_start, period_end, amount_limit)
        SELECT id, month AT TIME ZONE 'UTC', (month + interval '1 month') AT TIME ZONE 'UTC', amount
          FROM metering_budget WHERE id = ANY (absent) ORDER BY id
        ON CONFLICT DO NOTHING;
    END LOOP;
    RETURN coalesce(spendings, '{}');
END $$;

-- The version that a tenant has pinned, or the canary if it falls into its share; null for neither.
CREATE OR REPLACE FUNCTION metering_chosen_version(p_tenant uuid, p_pinned uuid, p_canary uuid, p_canary_percent int)
RETURNS uuid LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF p_pinned IS NOT NULL AND EXISTS (SELECT FROM catalog_modelversion WHERE id = p_pinned AND status IN ('READY', 'LIVE')) THEN
        RETURN p_pinned;
    END IF;
    -- Of nobody in particular, this is null.
    IF ('x' || left(encode(sha256(convert_to(p_tenant || '/' || p_canary, 'UTF8')), 'hex'), 8))::bit(32)::bigint % 100 < p_canary_percent
       AND EXISTS (SELECT FROM catalog_modelversion WHERE id = p_canary AND status IN ('READY', 'LIVE')) THEN
        RETURN p_canary;
    END IF;
    RETURN NULL;
END $$;

-- The version that answers a call of this tenant that names none: the one it has pinned, the canary if the tenant falls into its
-- share, else the live one; always the live one for the publisher itself. Who is in a share is in any larger one, too.
-- Here and nowhere else: callable_version (inference/versions.py) looks it up by this, and admission confirms it by this.
-- The planner puts it in place of its calls: most models have neither pin nor canary, and pay for no call of a function.
CREATE OR REPLACE FUNCTION metering_answering_version(
    p_tenant uuid, p_pinned uuid, p_publisher uuid, p_live uuid, p_canary uuid, p_canary_percent int
) RETURNS uuid LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN p_pinned IS NULL AND p_canary IS NULL OR p_tenant = p_publisher THEN p_live
                ELSE coalesce(metering_chosen_version(p_tenant, p_pinned, p_canary, p_canary_percent), p_live) END
$$;

-- With a role or a reference, the caller goes by what it remembers of its key and of the version: `moved`, ahead of all else,
-- unless the key still has that role and the reference still names that version to that tenant.
-- outcome: moved | admitted | replay | in_progress | idempotency_conflict | key_invalid | not_a_member | not_callable
--        | no_subscription | awaits_approval | suspended | rate_limited | too_many_at_once | quota_exceeded | cap_exceeded | budget_exceeded
-- p_elements and p_most_seconds: what the call is in elements, and the longest that it may take; the plan says which of them
-- its units are. p_leases: seconds after which a hold expires unless it is extended.
CREATE OR REPLACE FUNCTION metering_admit(
    p_holds uuid[], p_tenants uuid[], p_api_keys uuid[], p_users uuid[], p_versions uuid[], p_elements numeric[], p_most_seconds numeric[],
    p_idempotency_keys text[], p_digests bytea[], p_leases double precision[],
    p_roles text[], p_refs text[], p_numbers int[]
) RETURNS TABLE (
    outcome text, hold_id uuid, metered_unit text, units numeric, unit_limit numeric, remaining numeric, currency text,
    resets_at timestamptz, retry_after_ms int
)
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_material = off SET enable_bitmapscan = off SET plan_cache_mode = force_generic_plan SET jit = off
SET lock_timeout = '200ms' AS $$
#variable_conflict use_column
DECLARE
    moment timestamptz;
    asked CONSTANT int := cardinality(p_holds);
    -- Of each quota, as it is behind the locks, and as this batch leaves it.
    quotas bigint[];
    used_before numeric[];
    used numeric[];
    calls_before int[];
    calls int[];
    arrivals_before timestamptz[];
    arrivals timestamptz[];
    limits numeric[];
    touched boolean[];
    -- Of each budget's spending.
    spendings bigint[];
    budgets bigint[];
    spent_before numeric[];
    spent numeric[];
    month_ends timestamptz[];
    -- Per question.
    outcomes text[];
    holds uuid[];
    plans uuid[];
    taken_from bigint[];
    metered text[];
    granted numeric[];
    prices numeric[];
    caps bigint[];
    key_caps bigint[];
    most numeric[];
    left_over numeric[];
    currencies text[];
    resets timestamptz[];
    waits int[];
    claimed int[];
    r record;
    n int;
    earlier int;
    step interval;
    due timestamptz;
    amount numeric;
    grain numeric;
    price numeric;
    cap int;
    key_cap int;
    room numeric;
    broken text;
BEGIN
    quotas := metering_quotas(p_tenants, p_versions, clock_timestamp());
    spendings := metering_spendings(p_tenants, p_api_keys, clock_timestamp());
    -- Read behind the locks: whatever committed while this call waited for them holds for it.
    SELECT array_agg(q.settled + q.held), array_agg(q.running), array_agg(q.theoretical_arrival), array_agg(q.unit_limit), array_agg(false)
      INTO used_before, calls_before, arrivals_before, limits, touched
      FROM (SELECT * FROM metering_quota WHERE id = ANY (quotas) ORDER BY id FOR UPDATE) AS q;
    IF cardinality(spendings) > 0 THEN
        SELECT array_agg(s.budget_id), array_agg(s.settled + s.held), array_agg(s.period_end) INTO budgets, spent_before, month_ends
          FROM (SELECT * FROM metering_spending WHERE id = ANY (spendings) ORDER BY id FOR UPDATE) AS s;
    END IF;
    LOOP
        moment := clock_timestamp();
        used := used_before;
        calls := calls_before;
        arrivals := arrivals_before;
        spent := spent_before;
        holds := p_holds;
        outcomes := array_fill(NULL::text, ARRAY[asked]);
        metered := array_fill('CALL'::text, ARRAY[asked]);
        granted := array_fill(1::numeric, ARRAY[asked]);
        prices := array_fill(0::numeric, ARRAY[asked]);
        plans := array_fill(NULL::uuid, ARRAY[asked]);
        taken_from := array_fill(NULL::bigint, ARRAY[asked]);
        caps := taken_from;
        key_caps := taken_from;
        most := array_fill(NULL::numeric, ARRAY[asked]);
        left_over := most;
        currencies := outcomes;
        resets := array_fill(NULL::timestamptz, ARRAY[asked]);
        waits := array_fill(NULL::int, ARRAY[asked]);
        claimed := '{}';
        FOR r IN
            SELECT a.*, v.status IN ('READY', 'LIVE') AND m.taken_down_at IS NULL
                       AND (v.released_at IS NOT NULL OR m.publisher_id = a.tenant) AS is_callable,
                   m.id AS model, m.publisher_id = a.tenant AS is_own, s.id AS contract, s.status, p.id AS plan, p.unit, p.included_units, p.overage_price,
                   p.currency, p.requests_per_second, p.burst, p.max_concurrency, p.max_tokens_per_call,
                   b.id AS cap, b.amount AS cap_amount, kb.id AS key_cap, kb.amount AS key_cap_amount,
                   q.id AS quota, array_position(quotas, q.id) AS i, q.period_end,
                   a.api_key IS NULL OR (k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > moment)) IS TRUE
                                        AND k.id IS NOT NULL AS key_is_valid,
                   a.person IS NULL OR (
                       SELECT true FROM tenants_membership t JOIN tenants_user u ON u.id = t.user_id
                        WHERE t.tenant_id = a.tenant AND t.user_id = a.person AND u.is_active) IS TRUE AS is_member,
                   a.role IS NULL OR (k.role = a.role) IS TRUE AS has_role,
                   -- The conditions of callable_version (inference/versions.py), with those of is_callable.
                   a.ref IS NULL OR (
                       SELECT publisher.slug || '/' || m.name = a.ref
                              AND CASE WHEN a.number IS NULL
                                       THEN v.id = metering_answering_version(a.tenant, s.pinned_version_id, m.publisher_id,
                                                                              m.live_version_id, m.canary_version_id, m.canary_percent)
                                       ELSE v.number = a.number END
                              AND (m.publisher_id = a.tenant OR m.visibility = 'PUBLIC' OR EXISTS (
                                  SELECT FROM catalog_mlmodelgroupobjectpermission granted
                                    JOIN auth_permission permission ON permission.id = granted.permission_id
                                    JOIN tenants_tenant consumer ON consumer.group_id = granted.group_id
                                   WHERE granted.content_object_id = m.id AND consumer.id = a.tenant AND permission.codename = 'use_mlmodel'))
                         FROM tenants_tenant publisher WHERE publisher.id = m.publisher_id) IS TRUE AS is_named,
                   known.id AS known, known.state AS known_state, known.request_digest AS known_digest
              FROM unnest(p_holds, p_tenants, p_api_keys, p_users, p_versions, p_elements, p_most_seconds, p_idempotency_keys, p_digests,
                          p_roles, p_refs, p_numbers)
                   WITH ORDINALITY AS a (hold, tenant, api_key, person, version, elements, most_seconds, idempotency_key, digest,
                                         role, ref, number, position)
              LEFT JOIN tenants_apikey k ON k.id = a.api_key AND k.tenant_id = a.tenant
              LEFT JOIN catalog_modelversion v ON v.id = a.version
              LEFT JOIN catalog_mlmodel m ON m.id = v.model_id
              LEFT JOIN LATERAL (
                  SELECT * FROM subscriptions_modelsubscription s WHERE s.tenant_id = a.tenant AND s.model_id = v.model_id OFFSET 0) AS s ON true
              LEFT JOIN metering_quota q ON q.model_subscription_id = s.id AND q.id = ANY (quotas)
              LEFT JOIN subscriptions_plan chosen ON chosen.id = s.plan_id
              LEFT JOIN subscriptions_plan p ON p.id = CASE WHEN chosen.successor_from <= q.period_start
                                                            THEN metering_terms(chosen.id, q.period_start) ELSE chosen.id END
              LEFT JOIN metering_budget b ON b.tenant_id = a.tenant AND b.api_key_id IS NULL AND b.currency = p.currency AND b.amount IS NOT NULL
              LEFT JOIN metering_budget kb ON kb.api_key_id = a.api_key AND kb.currency = p.currency AND kb.amount IS NOT NULL
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
                    outcomes[n] := CASE WHEN r.status = 'SUSPENDED' THEN 'suspended'
                                        WHEN EXISTS (SELECT FROM subscriptions_modelsubscriptionrequest asked
                                                      WHERE asked.tenant_id = r.tenant AND asked.model_id = r.model AND asked.status = 'PENDING')
                                        THEN 'awaits_approval' ELSE 'no_subscription' END;
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
                -- Calls of the last period may still run in this one.
                IF r.max_concurrency IS NOT NULL THEN
                    SELECT coalesce(sum(o.running), 0) INTO earlier
                      FROM metering_quota o WHERE o.model_subscription_id = r.contract AND o.id <> r.quota;
                    IF calls[r.i] + earlier >= r.max_concurrency THEN
                        outcomes[n] := 'too_many_at_once';
                        most[n] := r.max_concurrency;
                        CONTINUE;
                    END IF;
                END IF;
                -- A smaller plan never takes back what is already used.
                limits[r.i] := greatest(metering_limit(r.included_units, r.overage_price), used[r.i]);
                amount := CASE r.unit WHEN 'ELEMENT' THEN r.elements WHEN 'SECOND' THEN r.most_seconds
                                      WHEN 'TOKEN' THEN r.max_tokens_per_call ELSE 1 END;
                -- Of what is counted only afterwards, the least that there is to charge.
                grain := CASE r.unit WHEN 'SECOND' THEN 0.001 WHEN 'TOKEN' THEN 1 END;
                IF grain IS NOT NULL THEN
                    -- A call may take what is left to pay it with.
                    amount := least(amount, limits[r.i] - used[r.i]);
                END IF;
                IF used[r.i] + amount > limits[r.i] OR amount < grain THEN
                    outcomes[n] := 'quota_exceeded';
                    most[n] := limits[r.i];
                    left_over[n] := limits[r.i] - used[r.i];
                    resets[n] := r.period_end;
                    CONTINUE;
                END IF;
                -- What a budget counts is the price that a call has when it is admitted: never less than what the bill will say,
                -- and so rounded up to what its column holds.
                price := ceil((greatest(used[r.i] + amount - r.included_units, 0) - greatest(used[r.i] - r.included_units, 0))
                              * coalesce(r.overage_price, 0) * 1e9) / 1e9;
                cap := array_position(budgets, r.cap);
                key_cap := array_position(budgets, r.key_cap);
                IF price > 0 AND (cap IS NOT NULL OR key_cap IS NOT NULL) THEN
                    room := greatest(least(r.cap_amount - spent[cap], r.key_cap_amount - spent[key_cap]), 0);
                    IF grain IS NOT NULL AND price > room THEN
                        amount := greatest(r.included_units - used[r.i], 0) + trunc(room / r.overage_price, 6);
                        price := room;
                    END IF;
                    IF price > room OR amount < grain THEN
                        IF key_cap IS NOT NULL AND (cap IS NULL OR r.key_cap_amount - spent[key_cap] <= r.cap_amount - spent[cap]) THEN
                            outcomes[n] := 'budget_exceeded';
                            most[n] := r.key_cap_amount;
                        ELSE
                            outcomes[n] := 'cap_exceeded';
                            most[n] := r.cap_amount;
                        END IF;
                        left_over[n] := room;
                        currencies[n] := r.currency;
                        resets[n] := month_ends[coalesce(cap, key_cap)];
                        CONTINUE;
                    END IF;
                    IF cap IS NOT NULL THEN
                        spent[cap] := spent[cap] + price;
                        caps[n] := spendings[cap];
                    END IF;
                    IF key_cap IS NOT NULL THEN
                        spent[key_cap] := spent[key_cap] + price;
                        key_caps[n] := spendings[key_cap];
                    END IF;
                END IF;
                used[r.i] := used[r.i] + amount;
                calls[r.i] := calls[r.i] + 1;
                arrivals[r.i] := due + step;
                touched[r.i] := true;
                taken_from[n] := r.quota;
                plans[n] := r.plan;
                metered[n] := r.unit;
                granted[n] := amount;
                prices[n] := price;
            END IF;
            outcomes[n] := 'admitted';
            IF r.idempotency_key IS NOT NULL THEN
                claimed := claimed || n;
            END IF;
        END LOOP;

        BEGIN
            INSERT INTO metering_hold (id, tenant_id, version_id, quota_id, plan_id, api_key_id, user_id, idempotency_key, request_digest,
                                       unit, units, price, spending_id, key_spending_id, created_at, expires_at)
            SELECT hold, tenant, version, quota, plan, api_key, person, idempotency_key, digest, unit, units, price, cap, key_cap,
                   moment, moment + make_interval(secs => lease)
              FROM unnest(p_holds, p_tenants, p_versions, taken_from, plans, p_api_keys, p_users, p_idempotency_keys, p_digests,
                          metered, granted, prices, caps, key_caps, p_leases, outcomes)
                   AS a (hold, tenant, version, quota, plan, api_key, person, idempotency_key, digest,
                         unit, units, price, cap, key_cap, lease, outcome)
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

    UPDATE metering_quota q
       SET unit_limit = a.most, held = a.used - q.settled, running = a.calls, theoretical_arrival = a.arrival
      FROM unnest(quotas, limits, used, calls, arrivals, touched) AS a (id, most, used, calls, arrival, touched)
     WHERE q.id = a.id AND a.touched;
    IF spent IS DISTINCT FROM spent_before THEN
        UPDATE metering_spending s SET amount_limit = greatest(b.amount, a.spent), held = a.spent - s.settled
          FROM unnest(spendings, spent, spent_before) AS a (id, spent, before), metering_budget b
         WHERE s.id = a.id AND b.id = s.budget_id AND a.spent <> a.before;
    END IF;
    RETURN QUERY SELECT a.* FROM unnest(outcomes, holds, metered, granted, most, left_over, currencies, resets, waits)
                 AS a (o, h, u, g, m, l, c, t, w);
END $$;

-- Keeps what runs long from expiring. False for a hold that has expired meanwhile: its call is in vain. False as well when the
-- model was taken down: its call is to end.
CREATE OR REPLACE FUNCTION metering_extend(p_holds uuid[], p_lease double precision) RETURNS boolean[] LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_material = off SET enable_bitmapscan = off SET plan_cache_mode = force_generic_plan SET jit = off
SET lock_timeout = '200ms' AS $$
DECLARE
    answers boolean[];
BEGIN
    PERFORM FROM metering_hold WHERE id = ANY (p_holds) ORDER BY id FOR NO KEY UPDATE;
    WITH done AS (
        UPDATE metering_hold SET state = 'executing', expires_at = clock_timestamp() + make_interval(secs => p_lease)
         WHERE id = ANY (p_holds) AND CASE state WHEN 'settled' THEN false WHEN 'released' THEN false ELSE true END
           AND (SELECT m.taken_down_at IS NULL FROM catalog_modelversion v JOIN catalog_mlmodel m ON m.id = v.model_id WHERE v.id = version_id)
        RETURNING id
    )
    SELECT array_agg(a.id = ANY (ARRAY(SELECT id FROM done)) ORDER BY position) INTO answers
      FROM unnest(p_holds) WITH ORDINALITY AS a (id, position);
    RETURN answers;
END $$;

-- Charges holds, and says how many units. Null for one that is no longer open: what it stood for has been given back and must
-- not be delivered. Seconds are charged as they were taken, in whole milliseconds, tokens as they were counted, if they were; never
-- more than was held. Everything else is charged as it was held.
CREATE OR REPLACE FUNCTION metering_settle(
    p_holds uuid[], p_latencies double precision[], p_tokens numeric[], p_answers bytea[], p_answer_digests bytea[], p_answer_seconds double precision
) RETURNS numeric[] LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_material = off SET enable_bitmapscan = off SET plan_cache_mode = force_generic_plan SET jit = off
SET lock_timeout = '200ms' AS $$
DECLARE
    answers numeric[] := array_fill(NULL::numeric, ARRAY[cardinality(p_holds)]);
    positions int[];
    charged numeric[];
BEGIN
    PERFORM metering_lock_holds(p_holds);
    WITH asked AS (
        SELECT a.*, h.units AS held, h.price,
               CASE h.unit WHEN 'SECOND' THEN least(h.units, ceil(a.latency::numeric) / 1000)
                           WHEN 'TOKEN' THEN least(h.units, a.tokens) ELSE h.units END AS units
          FROM unnest(p_holds, p_latencies, p_tokens, p_answers, p_answer_digests)
               WITH ORDINALITY AS a (hold, latency, tokens, answer, answer_digest, position)
          JOIN LATERAL (SELECT * FROM metering_hold WHERE id = a.hold OFFSET 0) AS h ON h.state NOT IN ('settled', 'released') ORDER BY a.hold
    ), done AS (
        UPDATE metering_hold h
           SET state = 'settled', charged = a.units, finished_at = clock_timestamp(), latency_ms = a.latency, answer_digest = a.answer_digest,
               -- Rounded up: of what was counted for a budget, never too much is given back.
               price = CASE WHEN a.units < a.held THEN ceil(a.price * a.units / a.held * 1e9) / 1e9 ELSE a.price END
          FROM asked a WHERE h.id = ANY (p_holds) AND h.id = a.hold AND CASE h.state WHEN 'settled' THEN false WHEN 'released' THEN false ELSE true END
        RETURNING h.finished_at, h.id, h.tenant_id, h.version_id, h.quota_id, h.plan_id, h.price, h.spending_id, h.key_spending_id,
                  a.price AS price_held, a.held, a.units, a.answer, a.position
    ), priced AS (
        -- What each adds to the price of the period's overage, in the order of the batch.
        SELECT d.*, m.publisher_id, coalesce(p.currency, 'USD') AS currency,
               coalesce(p.overage_price * (greatest(d.used + d.units - p.included_units, 0) - greatest(d.used - p.included_units, 0)), 0) AS amount
          FROM (SELECT done.*, q.settled + sum(done.units) OVER (PARTITION BY done.quota_id ORDER BY done.position) - done.units AS used
                  FROM done LEFT JOIN metering_quota q ON q.id = done.quota_id) AS d
          JOIN catalog_modelversion v ON v.id = d.version_id
          JOIN catalog_mlmodel m ON m.id = v.model_id
          LEFT JOIN subscriptions_plan p ON p.id = d.plan_id
    ), moved AS (
        UPDATE metering_quota q SET held = q.held - t.held, settled = q.settled + t.units, running = q.running - t.calls
          FROM (SELECT quota_id, sum(held) AS held, sum(units) AS units, count(*) AS calls FROM done GROUP BY quota_id) AS t
         WHERE q.id = t.quota_id
    ), spent AS (
        UPDATE metering_spending s SET held = s.held - t.held, settled = s.settled + t.price
          FROM (SELECT spending, sum(price_held) AS held, sum(price) AS price
                  FROM done CROSS JOIN LATERAL (VALUES (spending_id), (key_spending_id)) AS of (spending) GROUP BY spending) AS t
         WHERE s.id = t.spending
    ), entered AS (
        INSERT INTO metering_ledgerentry (hold_id, kind, account, tenant_id, units, amount, currency, created_at)
        SELECT d.id, 'charge', side.account, CASE side.sign WHEN -1 THEN d.tenant_id ELSE d.publisher_id END,
               side.sign * d.units, side.sign * d.amount, d.currency, d.finished_at
          FROM priced d CROSS JOIN (VALUES ('consumer', -1), ('publisher', 1)) AS side (account, sign) ORDER BY d.position, side.sign
    ), kept AS (
        INSERT INTO metering_storedanswer (hold_id, content, expires_at)
        SELECT d.id, d.answer, d.finished_at + make_interval(secs => p_answer_seconds) FROM done d WHERE d.answer IS NOT NULL
    )
    SELECT array_agg(position), array_agg(units) INTO positions, charged FROM done;
    FOR n IN 1..coalesce(cardinality(positions), 0) LOOP
        answers[positions[n]] := charged[n];
    END LOOP;
    RETURN answers;
END $$;

-- Gives holds' units back. False for one that was no longer open.
CREATE OR REPLACE FUNCTION metering_release(p_holds uuid[], p_because text[]) RETURNS boolean[] LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_material = off SET enable_bitmapscan = off SET plan_cache_mode = force_generic_plan SET jit = off
SET lock_timeout = '200ms' AS $$
DECLARE
    answers boolean[] := array_fill(false, ARRAY[cardinality(p_holds)]);
    positions int[];
    n int;
BEGIN
    PERFORM metering_lock_holds(p_holds);
    WITH asked AS (
        SELECT * FROM unnest(p_holds, p_because) WITH ORDINALITY AS a (hold, because, position) ORDER BY hold
    ), done AS (
        UPDATE metering_hold h SET state = 'released', released_because = a.because, finished_at = clock_timestamp()
          FROM asked a WHERE h.id = ANY (p_holds) AND h.id = a.hold AND CASE h.state WHEN 'settled' THEN false WHEN 'released' THEN false ELSE true END
        RETURNING h.id, h.quota_id, h.units, h.price, h.spending_id, h.key_spending_id, a.position
    ), moved AS (
        UPDATE metering_quota q SET held = q.held - t.units, running = q.running - t.calls
          FROM (SELECT quota_id, sum(units) AS units, count(*) AS calls FROM done GROUP BY quota_id) AS t WHERE q.id = t.quota_id
    ), spent AS (
        UPDATE metering_spending s SET held = s.held - t.price
          FROM (SELECT spending, sum(price) AS price
                  FROM done CROSS JOIN LATERAL (VALUES (spending_id), (key_spending_id)) AS of (spending) GROUP BY spending) AS t
         WHERE s.id = t.spending
    )
    SELECT array_agg(position) INTO positions FROM done;
    FOREACH n IN ARRAY coalesce(positions, '{}') LOOP
        answers[n] := true;
    END LOOP;
    RETURN answers;
END $$;

-- Takes charges back whose answers were never delivered, by adjusting entries. False for a hold that is not settled.
-- The amount is what the period's overage then costs less, whichever call it was first charged for.
CREATE OR REPLACE FUNCTION metering_refund(p_holds uuid[], p_because text) RETURNS boolean[] LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_material = off SET enable_bitmapscan = off SET plan_cache_mode = force_generic_plan SET jit = off
SET lock_timeout = '200ms' AS $$
DECLARE
    answers boolean[] := array_fill(false, ARRAY[cardinality(p_holds)]);
    positions int[];
    n int;
BEGIN
    PERFORM metering_lock_holds(p_holds);
    WITH asked AS (
        SELECT a.*, h.charged AS units FROM unnest(p_holds) WITH ORDINALITY AS a (hold, position)
          JOIN LATERAL (SELECT * FROM metering_hold WHERE id = a.hold OFFSET 0) AS h ON h.state = 'settled' ORDER BY a.hold
    ), done AS (
        UPDATE metering_hold h SET state = 'released', released_because = p_because, charged = 0, finished_at = clock_timestamp()
          FROM asked a WHERE h.id = ANY (p_holds) AND h.id = a.hold AND CASE h.state WHEN 'settled' THEN true ELSE false END
        RETURNING h.finished_at, h.id, h.tenant_id, h.version_id, h.quota_id, h.plan_id, h.price, h.spending_id, h.key_spending_id, a.units, a.position
    ), priced AS (
        SELECT d.*, m.publisher_id, coalesce(p.currency, 'USD') AS currency,
               coalesce(p.overage_price * (greatest(d.used - p.included_units, 0) - greatest(d.used - d.units - p.included_units, 0)), 0) AS amount
          FROM (SELECT done.*, q.settled - sum(done.units) OVER (PARTITION BY done.quota_id ORDER BY done.position) + done.units AS used
                  FROM done LEFT JOIN metering_quota q ON q.id = done.quota_id) AS d
          JOIN catalog_modelversion v ON v.id = d.version_id
          JOIN catalog_mlmodel m ON m.id = v.model_id
          LEFT JOIN subscriptions_plan p ON p.id = d.plan_id
    ), moved AS (
        UPDATE metering_quota q SET settled = q.settled - t.units
          FROM (SELECT quota_id, sum(units) AS units FROM done GROUP BY quota_id) AS t WHERE q.id = t.quota_id
    ), spent AS (
        UPDATE metering_spending s SET settled = s.settled - t.price
          FROM (SELECT spending, sum(price) AS price
                  FROM done CROSS JOIN LATERAL (VALUES (spending_id), (key_spending_id)) AS of (spending) GROUP BY spending) AS t
         WHERE s.id = t.spending
    ), entered AS (
        INSERT INTO metering_ledgerentry (hold_id, kind, account, tenant_id, units, amount, currency, created_at)
        SELECT d.id, 'refund', side.account, CASE side.sign WHEN 1 THEN d.tenant_id ELSE d.publisher_id END,
               side.sign * d.units, side.sign * d.amount, d.currency, d.finished_at
          FROM priced d CROSS JOIN (VALUES ('consumer', 1), ('publisher', -1)) AS side (account, sign) ORDER BY d.position, side.sign
    ), forgotten AS (
        DELETE FROM metering_storedanswer k USING done d WHERE k.hold_id = d.id
    )
    SELECT array_agg(position) INTO positions FROM done;
    FOREACH n IN ARRAY coalesce(positions, '{}') LOOP
        answers[n] := true;
    END LOOP;
    RETURN answers;
END $$;

-- Locks what a call of these holds is about to change, but for the holds: it changes those in the order of their ids.
CREATE OR REPLACE FUNCTION metering_lock_holds(p_holds uuid[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    quotas bigint[];
    spendings bigint[];
BEGIN
    SELECT array_agg(DISTINCT quota_id), array_agg(DISTINCT spending_id) || array_agg(DISTINCT key_spending_id) INTO quotas, spendings
      FROM (SELECT * FROM metering_hold WHERE id = ANY (p_holds) OFFSET 0) AS h;
    PERFORM FROM metering_quota WHERE id = ANY (quotas) ORDER BY id FOR UPDATE;
    PERFORM FROM metering_spending WHERE id = ANY (spendings) ORDER BY id FOR UPDATE;
END $$;

-- Gives back what nobody came to settle; returns how many. What others are working on is left to them; where nothing else is
-- left, the one that has waited longest is waited for, so that a busy subscription's turn comes as well.
CREATE OR REPLACE FUNCTION metering_release_expired(p_most int) RETURNS int LANGUAGE plpgsql SET lock_timeout = '1s' AS $$
DECLARE
    expired uuid[] := ARRAY(
        SELECT id FROM metering_hold WHERE state IN ('held', 'executing') AND expires_at < clock_timestamp() ORDER BY expires_at LIMIT p_most);
    quotas bigint[] := ARRAY(
        SELECT id FROM metering_quota WHERE id IN (SELECT quota_id FROM metering_hold WHERE id = ANY (expired)) ORDER BY id FOR UPDATE SKIP LOCKED);
    free uuid[];
BEGIN
    IF cardinality(quotas) = 0 THEN
        BEGIN
            quotas := ARRAY(SELECT id FROM metering_quota WHERE id = (SELECT quota_id FROM metering_hold WHERE id = expired[1]) FOR UPDATE);
        EXCEPTION WHEN lock_not_available THEN
            -- Next time.
        END;
    END IF;
    free := ARRAY(
        -- Asked again behind the locks: a heartbeat may have come meanwhile.
        SELECT id FROM metering_hold
         WHERE id = ANY (expired) AND (quota_id IS NULL OR quota_id = ANY (quotas)) AND expires_at < clock_timestamp()
         ORDER BY id FOR NO KEY UPDATE SKIP LOCKED);
    RETURN (SELECT count(*) FILTER (WHERE done) FROM unnest(metering_release(free, array_fill('EXPIRED'::text, ARRAY[cardinality(free)]))) AS done);
END $$;
