-- Admission, settlement and release: each one transaction, each one round trip.
-- Locks are always taken in the order quota, hold, ledger.

-- The month, counted from the anchor in UTC, that `at` falls into. Month ends clip and come back: 31 Jan, 28 Feb, 31 Mar.
CREATE FUNCTION metering_period(anchor timestamptz, at timestamptz, OUT period_start timestamptz, OUT period_end timestamptz)
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    base timestamp := anchor AT TIME ZONE 'UTC';
    moment timestamp := at AT TIME ZONE 'UTC';
    months int := greatest(0, (extract(year FROM moment) - extract(year FROM base))::int * 12
                              + (extract(month FROM moment) - extract(month FROM base))::int);
BEGIN
    IF base + make_interval(months => months) > moment AND months > 0 THEN
        months := months - 1;
    END IF;
    period_start := (base + make_interval(months => months)) AT TIME ZONE 'UTC';
    period_end := (base + make_interval(months => months + 1)) AT TIME ZONE 'UTC';
END $$;

-- What a plan allows in a period: with an overage price, everything that a counter can hold.
CREATE FUNCTION metering_limit(included numeric, overage_price numeric) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN overage_price IS NULL THEN included ELSE 1e15 END
$$;

-- outcome: admitted | replay | in_progress | idempotency_conflict | no_subscription | suspended | rate_limited | quota_exceeded
CREATE FUNCTION metering_admit(
    p_hold uuid, p_tenant uuid, p_api_key uuid, p_user uuid, p_version uuid, p_units numeric,
    p_idempotency_key text, p_digest bytea, p_seconds double precision,
    OUT outcome text, OUT hold_id uuid, OUT unit_limit numeric, OUT remaining numeric, OUT resets_at timestamptz, OUT retry_after_ms int
) LANGUAGE plpgsql AS $$
DECLARE
    moment timestamptz;
    known metering_hold;
    target record;
    contract record;
    q metering_quota;
    period record;
    step interval;
    due timestamptz;
BEGIN
    hold_id := p_hold;
    SELECT v.model_id, m.publisher_id INTO target
      FROM catalog_modelversion v JOIN catalog_mlmodel m ON m.id = v.model_id WHERE v.id = p_version;
    LOOP
        IF p_idempotency_key IS NOT NULL THEN
            SELECT * INTO known FROM metering_hold h
             WHERE h.tenant_id = p_tenant AND h.idempotency_key = p_idempotency_key AND h.state <> 'released';
            IF FOUND THEN
                hold_id := known.id;
                outcome := CASE WHEN known.request_digest IS DISTINCT FROM p_digest THEN 'idempotency_conflict'
                                WHEN known.state = 'settled' THEN 'replay'
                                ELSE 'in_progress' END;
                RETURN;
            END IF;
        END IF;

        IF target.publisher_id = p_tenant THEN
            q := NULL;
            moment := clock_timestamp();
        ELSE
            SELECT s.id, s.created_at INTO contract FROM subscriptions_modelsubscription s
             WHERE s.tenant_id = p_tenant AND s.model_id = target.model_id;
            IF NOT FOUND THEN
                outcome := 'no_subscription';
                RETURN;
            END IF;
            period := metering_period(contract.created_at, clock_timestamp());
            SELECT * INTO q FROM metering_quota WHERE model_subscription_id = contract.id AND period_start = period.period_start FOR UPDATE;
            IF NOT FOUND THEN
                INSERT INTO metering_quota (model_subscription_id, period_start, period_end, unit_limit, theoretical_arrival)
                SELECT s.id, period.period_start, period.period_end, metering_limit(p.included_units, p.overage_price),
                       (SELECT max(theoretical_arrival) FROM metering_quota WHERE model_subscription_id = s.id)
                  FROM subscriptions_modelsubscription s JOIN subscriptions_plan p ON p.id = s.plan_id WHERE s.id = contract.id
                ON CONFLICT DO NOTHING;
                SELECT * INTO q FROM metering_quota
                 WHERE model_subscription_id = contract.id AND period_start = period.period_start FOR UPDATE;
            END IF;
            -- Read behind the lock: a cancellation or change of plan that committed while this call waited holds for it.
            SELECT s.status, p.included_units, p.overage_price, p.requests_per_second, p.burst INTO contract
              FROM subscriptions_modelsubscription s JOIN subscriptions_plan p ON p.id = s.plan_id WHERE s.id = q.model_subscription_id;
            IF contract.status <> 'ACTIVE' THEN
                outcome := CASE contract.status WHEN 'SUSPENDED' THEN 'suspended' ELSE 'no_subscription' END;
                RETURN;
            END IF;
            moment := clock_timestamp();
            step := interval '1 second' / contract.requests_per_second;
            due := greatest(q.theoretical_arrival, moment);
            IF due - moment > step * (contract.burst - 1) THEN
                outcome := 'rate_limited';
                retry_after_ms := ceil(extract(epoch FROM due - moment - step * (contract.burst - 1)) * 1000);
                RETURN;
            END IF;
            -- A smaller plan never takes back what is already used.
            q.unit_limit := greatest(metering_limit(contract.included_units, contract.overage_price), q.settled + q.held);
            IF q.settled + q.held + p_units > q.unit_limit THEN
                outcome := 'quota_exceeded';
                unit_limit := q.unit_limit;
                remaining := q.unit_limit - q.settled - q.held;
                resets_at := q.period_end;
                RETURN;
            END IF;
        END IF;

        INSERT INTO metering_hold (id, tenant_id, version_id, quota_id, api_key_id, user_id, idempotency_key, request_digest,
                                   units, created_at, expires_at)
        VALUES (p_hold, p_tenant, p_version, q.id, p_api_key, p_user, p_idempotency_key, p_digest,
                p_units, moment, moment + make_interval(secs => p_seconds))
        ON CONFLICT (tenant_id, idempotency_key) WHERE state <> 'released' DO NOTHING;
        -- Another call with this key came first: see what became of it.
        CONTINUE WHEN NOT FOUND;

        UPDATE metering_quota SET unit_limit = q.unit_limit, held = metering_quota.held + p_units, theoretical_arrival = due + step
         WHERE id = q.id;
        outcome := 'admitted';
        RETURN;
    END LOOP;
END $$;

-- Charges a hold. False when it is no longer held: what it stood for has been given back and must not be delivered.
CREATE FUNCTION metering_settle(
    p_hold uuid, p_units numeric, p_latency_ms double precision, p_answer bytea, p_answer_seconds double precision
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    h metering_hold;
    q metering_quota;
    terms record;
    amount numeric := 0;
    moment timestamptz;
BEGIN
    SELECT * INTO h FROM metering_hold WHERE id = p_hold;
    IF h.quota_id IS NOT NULL THEN
        SELECT * INTO q FROM metering_quota WHERE id = h.quota_id FOR UPDATE;
    END IF;
    moment := clock_timestamp();
    UPDATE metering_hold SET state = 'settled', charged = p_units, finished_at = moment, latency_ms = p_latency_ms
     WHERE id = p_hold AND state = 'held';
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    SELECT m.publisher_id, p.included_units, p.overage_price, coalesce(p.currency, 'USD') AS currency INTO terms
      FROM catalog_modelversion v JOIN catalog_mlmodel m ON m.id = v.model_id
      LEFT JOIN subscriptions_modelsubscription s ON s.id = q.model_subscription_id
      LEFT JOIN subscriptions_plan p ON p.id = s.plan_id WHERE v.id = h.version_id;
    IF q.id IS NOT NULL THEN
        UPDATE metering_quota SET held = held - h.units, settled = settled + p_units WHERE id = q.id;
        amount := coalesce(terms.overage_price, 0)
                * (greatest(q.settled + p_units - terms.included_units, 0) - greatest(q.settled - terms.included_units, 0));
    END IF;
    INSERT INTO metering_ledgerentry (hold_id, kind, account, tenant_id, units, amount, currency, created_at)
    VALUES (p_hold, 'charge', 'consumer', h.tenant_id, -p_units, -amount, terms.currency, moment),
           (p_hold, 'charge', 'publisher', terms.publisher_id, p_units, amount, terms.currency, moment);
    IF p_answer IS NOT NULL THEN
        INSERT INTO metering_storedanswer (hold_id, content, expires_at)
        VALUES (p_hold, p_answer, moment + make_interval(secs => p_answer_seconds));
    END IF;
    RETURN true;
END $$;

-- Gives a hold's units back. False when it was no longer held.
CREATE FUNCTION metering_release(p_hold uuid, p_because text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    h metering_hold;
BEGIN
    SELECT * INTO h FROM metering_hold WHERE id = p_hold;
    IF h.quota_id IS NOT NULL THEN
        PERFORM FROM metering_quota WHERE id = h.quota_id FOR UPDATE;
    END IF;
    UPDATE metering_hold SET state = 'released', released_because = p_because, finished_at = clock_timestamp()
     WHERE id = p_hold AND state = 'held';
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE metering_quota SET held = held - h.units WHERE id = h.quota_id;
    RETURN true;
END $$;

-- Gives back what nobody came to settle; returns how many. Quotas in the order of their ids, so that two reapers cannot deadlock.
CREATE FUNCTION metering_release_expired(p_most int) RETURNS int LANGUAGE sql AS $$
    SELECT count(*) FILTER (WHERE metering_release(expired.id, 'EXPIRED'))::int
      FROM (SELECT id, quota_id FROM
               (SELECT id, quota_id FROM metering_hold WHERE state = 'held' AND expires_at < clock_timestamp()
                 ORDER BY expires_at LIMIT p_most) AS oldest
             ORDER BY quota_id, id) AS expired
$$;

CREATE FUNCTION metering_ledger_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the ledger is append-only: write an adjusting entry' USING ERRCODE = 'restrict_violation';
END $$;

CREATE TRIGGER ledger_is_append_only BEFORE UPDATE OR DELETE ON metering_ledgerentry
FOR EACH ROW EXECUTE FUNCTION metering_ledger_is_append_only();
