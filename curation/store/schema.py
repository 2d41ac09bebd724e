"""The tables, as numbered steps: a file at version n has had the first n applied. A step is never edited later."""

MIGRATIONS = (
    # 1: pairs, flags, review, releases
    """
    CREATE TABLE schema_versions (version INTEGER PRIMARY KEY, applied_at TIMESTAMPTZ NOT NULL);

    -- content, addressed by its hash: stored once, never changed
    CREATE TABLE prompts (
        prompt_id VARCHAR PRIMARY KEY,
        turns VARCHAR NOT NULL -- JSON, as curation.pairs.packed writes it
    );
    CREATE TABLE responses (
        response_id VARCHAR PRIMARY KEY, prompt_id VARCHAR NOT NULL, text VARCHAR NOT NULL, lead VARCHAR NOT NULL
    );
    CREATE TABLE pairs (
        pair_id VARCHAR PRIMARY KEY, prompt_id VARCHAR NOT NULL, chosen_id VARCHAR NOT NULL, rejected_id VARCHAR NOT NULL
    );

    -- datasets: rows in order, each a pair
    CREATE TABLE datasets (
        dataset VARCHAR PRIMARY KEY, source VARCHAR NOT NULL, content_hash VARCHAR NOT NULL,
        imported INTEGER NOT NULL, rejected INTEGER NOT NULL, imported_at TIMESTAMPTZ NOT NULL
    );
    CREATE TABLE dataset_rows (
        dataset VARCHAR NOT NULL, "row" INTEGER NOT NULL, pair_id VARCHAR NOT NULL, subset VARCHAR NOT NULL,
        split VARCHAR NOT NULL, file VARCHAR NOT NULL, line INTEGER NOT NULL, extra VARCHAR
    );
    CREATE TABLE rejects (
        dataset VARCHAR NOT NULL, file VARCHAR NOT NULL, line INTEGER NOT NULL, reason VARCHAR NOT NULL, text VARCHAR NOT NULL
    );

    -- screening: one row for each filter of each run, and what it found
    CREATE TABLE screenings (
        run_id VARCHAR NOT NULL, dataset VARCHAR NOT NULL, filter VARCHAR NOT NULL, version INTEGER NOT NULL,
        parameters VARCHAR NOT NULL, screened INTEGER NOT NULL, flagged INTEGER NOT NULL, finished_at TIMESTAMPTZ NOT NULL,
        PRIMARY KEY (run_id, filter)
    );
    CREATE TABLE all_flags (
        run_id VARCHAR NOT NULL, pair_id VARCHAR NOT NULL, filter VARCHAR NOT NULL, side VARCHAR NOT NULL,
        score DOUBLE NOT NULL, reason VARCHAR NOT NULL
    );
    CREATE INDEX flags_of_a_pair ON all_flags (pair_id);
    CREATE VIEW current_screenings AS
        SELECT * FROM screenings
        QUALIFY row_number() OVER (PARTITION BY dataset, filter ORDER BY finished_at DESC, run_id DESC) = 1;
    CREATE VIEW flags AS
        SELECT s.dataset, f.pair_id, f.filter, f.side, f.score, f.reason
        FROM all_flags AS f JOIN current_screenings AS s ON f.run_id = s.run_id AND f.filter = s.filter;

    -- review: events, never changed; what stands is a view
    CREATE TABLE review_settings (
        dataset VARCHAR NOT NULL, settings VARCHAR NOT NULL, person VARCHAR NOT NULL, set_at TIMESTAMPTZ NOT NULL
    );
    CREATE TABLE claims (
        claim_id VARCHAR PRIMARY KEY, dataset VARCHAR NOT NULL, pair_id VARCHAR NOT NULL, person VARCHAR NOT NULL,
        kind VARCHAR NOT NULL, chosen_shown VARCHAR NOT NULL, claimed_at TIMESTAMPTZ NOT NULL, expires_at TIMESTAMPTZ NOT NULL
    );
    CREATE TABLE claim_ends (claim_id VARCHAR PRIMARY KEY, how VARCHAR NOT NULL, ended_at TIMESTAMPTZ NOT NULL);
    CREATE TABLE drafts (
        claim_id VARCHAR NOT NULL, note VARCHAR NOT NULL, tags VARCHAR[] NOT NULL, saved_at TIMESTAMPTZ NOT NULL
    );
    CREATE TABLE verdict_events (
        claim_id VARCHAR PRIMARY KEY, dataset VARCHAR NOT NULL, pair_id VARCHAR NOT NULL, person VARCHAR NOT NULL,
        verdict VARCHAR NOT NULL, kind VARCHAR NOT NULL, chosen_shown VARCHAR NOT NULL, seconds DOUBLE,
        note VARCHAR NOT NULL, tags VARCHAR[] NOT NULL, decided_at TIMESTAMPTZ NOT NULL
    );
    CREATE TABLE undos (claim_id VARCHAR PRIMARY KEY, undone_at TIMESTAMPTZ NOT NULL);
    CREATE VIEW verdicts AS
        SELECT v.* FROM verdict_events AS v ANTI JOIN undos AS u ON v.claim_id = u.claim_id
        QUALIFY row_number() OVER (PARTITION BY v.pair_id, v.person ORDER BY v.decided_at DESC, v.claim_id DESC) = 1;
    CREATE TABLE gold_pairs (
        dataset VARCHAR NOT NULL, pair_id VARCHAR NOT NULL, answer VARCHAR NOT NULL, swapped BOOLEAN NOT NULL,
        person VARCHAR NOT NULL, set_at TIMESTAMPTZ NOT NULL, PRIMARY KEY (dataset, pair_id)
    );
    CREATE TABLE adjudication_events (
        adjudication_id VARCHAR PRIMARY KEY, dataset VARCHAR NOT NULL, pair_id VARCHAR NOT NULL, person VARCHAR NOT NULL,
        verdict VARCHAR NOT NULL, note VARCHAR NOT NULL, seconds DOUBLE, settled_at TIMESTAMPTZ NOT NULL
    );
    CREATE VIEW adjudications AS
        SELECT * FROM adjudication_events
        QUALIFY row_number() OVER (PARTITION BY pair_id ORDER BY settled_at DESC, adjudication_id DESC) = 1;

    CREATE TABLE releases (
        name VARCHAR PRIMARY KEY, dataset VARCHAR NOT NULL, folder VARCHAR NOT NULL, manifest VARCHAR NOT NULL,
        released_at TIMESTAMPTZ NOT NULL
    );
    CREATE TABLE pseudonyms (person VARCHAR PRIMARY KEY, pseudonym VARCHAR NOT NULL UNIQUE);
    """,
    # 2: findings below a threshold are kept, and thresholds can be moved; which model read for a filter
    """
    DROP VIEW flags;
    DROP VIEW current_screenings;
    DROP INDEX flags_of_a_pair;
    ALTER TABLE screenings ADD COLUMN threshold DOUBLE DEFAULT 0;
    ALTER TABLE screenings ADD COLUMN read_by VARCHAR DEFAULT '';
    ALTER TABLE all_flags ADD COLUMN detail VARCHAR DEFAULT '';
    CREATE INDEX flags_of_a_pair ON all_flags (pair_id);
    CREATE TABLE threshold_events (
        run_id VARCHAR NOT NULL, filter VARCHAR NOT NULL, threshold DOUBLE NOT NULL, person VARCHAR NOT NULL,
        set_at TIMESTAMPTZ NOT NULL
    );
    CREATE VIEW current_screenings AS
        WITH latest AS (
            SELECT * FROM screenings
            QUALIFY row_number() OVER (PARTITION BY dataset, filter ORDER BY finished_at DESC, run_id DESC) = 1
        ),
        moved AS (
            SELECT * FROM threshold_events
            QUALIFY row_number() OVER (PARTITION BY run_id, filter ORDER BY set_at DESC) = 1
        )
        SELECT s.* REPLACE (coalesce(m.threshold, s.threshold) AS threshold)
        FROM latest AS s LEFT JOIN moved AS m ON m.run_id = s.run_id AND m.filter = s.filter;
    CREATE VIEW findings AS -- flags, and what a filter found below its threshold
        SELECT s.dataset, f.pair_id, f.filter, f.side, f.score, f.reason, f.detail, f.score >= s.threshold AS flagged
        FROM all_flags AS f JOIN current_screenings AS s ON f.run_id = s.run_id AND f.filter = s.filter;
    CREATE VIEW flags AS SELECT * EXCLUDE (flagged) FROM findings WHERE flagged;
    """,
    # 3: studies: items with responses, and what raters say of them
    """
    CREATE TABLE studies (study VARCHAR PRIMARY KEY, person VARCHAR NOT NULL, created_at TIMESTAMPTZ NOT NULL);
    CREATE TABLE study_events ( -- design, items, closed, reopened, paused, let on: what happened to a study, and who did it
        study VARCHAR NOT NULL, kind VARCHAR NOT NULL, concerns VARCHAR NOT NULL, detail VARCHAR NOT NULL,
        person VARCHAR NOT NULL, happened_at TIMESTAMPTZ NOT NULL
    );
    CREATE TABLE study_items (
        item_id VARCHAR PRIMARY KEY, study VARCHAR NOT NULL, place INTEGER NOT NULL, prompt_id VARCHAR NOT NULL,
        name VARCHAR NOT NULL, subset VARCHAR NOT NULL, kind VARCHAR NOT NULL, expected VARCHAR NOT NULL,
        explanation VARCHAR NOT NULL
    );
    CREATE TABLE study_responses ( -- `given` is false where ratings were imported without the text they are of
        item_id VARCHAR NOT NULL, place INTEGER NOT NULL, response_id VARCHAR NOT NULL, generator VARCHAR NOT NULL,
        given BOOLEAN NOT NULL, PRIMARY KEY (item_id, response_id, generator)
    );

    CREATE TABLE study_claims (
        claim_id VARCHAR PRIMARY KEY, study VARCHAR NOT NULL, item_id VARCHAR NOT NULL, person VARCHAR NOT NULL,
        kind VARCHAR NOT NULL, shown VARCHAR[] NOT NULL, claimed_at TIMESTAMPTZ NOT NULL, expires_at TIMESTAMPTZ NOT NULL
    );
    CREATE TABLE study_claim_ends (claim_id VARCHAR PRIMARY KEY, how VARCHAR NOT NULL, ended_at TIMESTAMPTZ NOT NULL);
    CREATE TABLE study_skips (claim_id VARCHAR PRIMARY KEY, why VARCHAR NOT NULL);
    CREATE TABLE study_drafts (
        claim_id VARCHAR NOT NULL, version INTEGER NOT NULL, draft VARCHAR NOT NULL, saved_at TIMESTAMPTZ NOT NULL
    );
    CREATE TABLE study_answers (
        -- marks is JSON: {"ratings": [[response, aspect, value], ...], "preferences": [[left, right, choice, strength], ...]}
        claim_id VARCHAR PRIMARY KEY, study VARCHAR NOT NULL, item_id VARCHAR NOT NULL, person VARCHAR NOT NULL,
        kind VARCHAR NOT NULL, shown VARCHAR[] NOT NULL, marks VARCHAR NOT NULL, seconds DOUBLE, note VARCHAR NOT NULL,
        reasons VARCHAR[] NOT NULL, answered_at TIMESTAMPTZ NOT NULL
    );
    CREATE TABLE study_undos (claim_id VARCHAR PRIMARY KEY, undone_at TIMESTAMPTZ NOT NULL);
    CREATE TABLE study_settlements (
        settlement_id VARCHAR PRIMARY KEY, study VARCHAR NOT NULL, item_id VARCHAR NOT NULL, person VARCHAR NOT NULL,
        marks VARCHAR NOT NULL, note VARCHAR NOT NULL, seconds DOUBLE, settled_at TIMESTAMPTZ NOT NULL
    );
    CREATE TABLE study_rejects (
        study VARCHAR NOT NULL, file VARCHAR NOT NULL, line INTEGER NOT NULL, reason VARCHAR NOT NULL,
        imported_at TIMESTAMPTZ NOT NULL
    );

    CREATE VIEW standing_answers AS
        SELECT a.*, a.rowid AS arrival FROM study_answers AS a ANTI JOIN study_undos AS u ON a.claim_id = u.claim_id;
    -- ratings and preferences are stored apart, neither is derived from the other; of each the latest stands
    CREATE VIEW ratings AS
        WITH every AS (
            SELECT * EXCLUDE (marks), unnest(from_json(marks, '{"ratings": [["VARCHAR"]]}').ratings) AS mark
            FROM standing_answers
        )
        SELECT * EXCLUDE (mark), mark[1] AS response_id, mark[2] AS aspect, mark[3]::DOUBLE AS value FROM every
        QUALIFY row_number() OVER (
            PARTITION BY item_id, person, response_id, aspect ORDER BY answered_at DESC, arrival DESC) = 1;
    CREATE VIEW preferences AS
        WITH every AS (
            SELECT * EXCLUDE (marks), unnest(from_json(marks, '{"preferences": [["VARCHAR"]]}').preferences) AS mark
            FROM standing_answers
        )
        SELECT * EXCLUDE (mark), mark[1] AS left_id, mark[2] AS right_id, mark[3] AS choice, mark[4]::INTEGER AS strength
        FROM every
        QUALIFY row_number() OVER (
            PARTITION BY item_id, person, least(left_id, right_id), greatest(left_id, right_id)
            ORDER BY answered_at DESC, arrival DESC) = 1;
    CREATE VIEW study_adjudications AS
        SELECT * FROM study_settlements
        QUALIFY row_number() OVER (PARTITION BY item_id ORDER BY settled_at DESC, settlement_id DESC) = 1;
    """,
    # 4: reward models, and what they say of responses
    """
    CREATE TABLE reward_models ( -- a name means one model for ever; fingerprint is "" where its files were not here
        reward_model VARCHAR PRIMARY KEY, family VARCHAR NOT NULL, settings VARCHAR NOT NULL, compares BOOLEAN NOT NULL,
        revision VARCHAR NOT NULL, fingerprint VARCHAR NOT NULL, licence VARCHAR NOT NULL, memory BIGINT,
        run_id VARCHAR NOT NULL, person VARCHAR NOT NULL, registered_at TIMESTAMPTZ NOT NULL
    );
    CREATE TABLE trained_on (reward_model VARCHAR NOT NULL, prompt_id VARCHAR NOT NULL); -- of those trained here
    CREATE TABLE score_runs (
        run_id VARCHAR PRIMARY KEY, reward_model VARCHAR NOT NULL, what VARCHAR NOT NULL, texts INTEGER NOT NULL,
        truncated INTEGER NOT NULL, tokens BIGINT NOT NULL, seconds DOUBLE NOT NULL, taken_at TIMESTAMPTZ NOT NULL
    );
    CREATE TABLE scores (
        reward_model VARCHAR NOT NULL, response_id VARCHAR NOT NULL, score DOUBLE NOT NULL, truncated BOOLEAN NOT NULL,
        run_id VARCHAR NOT NULL, PRIMARY KEY (reward_model, response_id)
    );
    CREATE TABLE model_preferences ( -- P(first is better); first_id comes before second_id
        reward_model VARCHAR NOT NULL, first_id VARCHAR NOT NULL, second_id VARCHAR NOT NULL, preference DOUBLE NOT NULL,
        truncated BOOLEAN NOT NULL, run_id VARCHAR NOT NULL, PRIMARY KEY (reward_model, first_id, second_id)
    );
    """,
    # 5: policies, and what they answer
    """
    CREATE TABLE policies ( -- a name means one policy for ever; source is "" where there is no model of its own
        policy VARCHAR PRIMARY KEY, kind VARCHAR NOT NULL, source VARCHAR NOT NULL,
        lineage VARCHAR NOT NULL, -- JSON: what it was made from, and how
        fingerprint VARCHAR NOT NULL, licence VARCHAR NOT NULL, run_id VARCHAR NOT NULL, person VARCHAR NOT NULL,
        registered_at TIMESTAMPTZ NOT NULL
    );
    CREATE TABLE policy_prompts (policy VARCHAR NOT NULL, prompt_id VARCHAR NOT NULL); -- what it, or its start, learned from
    CREATE TABLE generations ( -- point: the step of training, or the n of best-of-n
        generator VARCHAR NOT NULL, point INTEGER NOT NULL, sample INTEGER NOT NULL, prompt_id VARCHAR NOT NULL,
        response_id VARCHAR NOT NULL, tokens INTEGER NOT NULL, stopped BOOLEAN NOT NULL, log_ratio DOUBLE,
        run_id VARCHAR NOT NULL, PRIMARY KEY (generator, point, sample, prompt_id)
    );
    """,
)
