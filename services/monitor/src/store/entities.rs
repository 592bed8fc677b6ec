//! The rows of the tables.

#![expect(unreachable_pub, reason = "the derives write pub items, and want theirs to be")]

pub(crate) mod chunk {
    use sea_orm::entity::prelude::*;

    /// One Parquet object. Inserted once, in the transaction that captures its messages; never updated.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "chunks")]
    pub struct Model {
        /// Order of commit: the logical clock of the log.
        #[sea_orm(primary_key)]
        pub position: i64,
        pub id: Uuid,
        /// `prediction`, `test` or `outcome`.
        pub kind: String,
        pub model: String,
        /// Of the predictions; 0 for outcomes.
        pub model_version: i64,
        /// Of the predictions; empty for outcomes.
        pub bundle_digest: String,
        pub object_key: String,
        pub digest: String,
        pub rows: i64,
        pub bytes: i64,
        /// Milliseconds; of predictions only.
        pub event_min: Option<i64>,
        pub event_max: Option<i64>,
        /// Prediction ids, compared byte by byte on every database.
        pub id_min: Uuid,
        pub id_max: Uuid,
        /// Latest event time of the model's log before this chunk, in milliseconds.
        pub latest_before: Option<i64>,
        pub created_at: ChronoDateTimeUtc,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

pub(crate) mod log {
    use sea_orm::entity::prelude::*;

    /// The state of one model's log. Capture owns the counters and the event clock, `latest_event` and `ahead`; evaluation owns
    /// `reported_until`. A reset sets all of these and `reset_at`, which capture and evaluation compare.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "logs")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub model: String,
        pub predictions: i64,
        pub lost: i64,
        /// Decreases when a message arrives after messages with greater numbers.
        pub lost_messages: i64,
        pub unsampled: i64,
        pub late: i64,
        /// Rows that are test rows.
        pub tests: i64,
        pub outcomes: i64,
        pub bad_lines: i64,
        /// The latest of them, with the reason.
        pub bad_line: Option<String>,
        pub latest_event: Option<i64>,
        pub ahead: Json,
        pub reported_until: Option<i64>,
        /// Position of the latest chunk at the last reset; 0 without one. Chunks up to it enter no further window.
        pub reset_at: i64,
        /// `late` and `predictions` when late rows were last counted. Owned by the instance that raises alerts.
        pub late_seen: i64,
        pub predictions_seen: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

pub(crate) mod deletion {
    use sea_orm::entity::prelude::*;

    /// What retention has deleted of one model's log. Owned by the instance that captures.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "deletions")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub model: String,
        pub predictions: i64,
        pub tests: i64,
        pub outcomes: i64,
        pub chunks: i64,
        pub bytes: i64,
        /// The greatest position of a chunk of predictions.
        pub position: i64,
        /// The latest event time of a prediction, in milliseconds.
        pub events_until: Option<i64>,
        pub deleted_at: ChronoDateTimeUtc,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

pub(crate) mod incarnation {
    use sea_orm::entity::prelude::*;

    /// One incarnation of a replica and the messages received from it. Owned by capture.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "incarnations")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub incarnation: Uuid,
        /// The greatest number among its messages.
        pub highest: i64,
        pub seen_at: ChronoDateTimeUtc,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

pub(crate) mod report {
    use sea_orm::entity::prelude::*;

    /// Evaluation, under the model's lease, owns both arrows:
    ///
    /// ```text
    /// (insert when the window closes) -> quality NULL --(labelled, or the label wait is over)--> quality set
    /// ```
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "reports")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub model: String,
        pub model_version: i64,
        pub bundle_digest: String,
        pub from_ms: i64,
        pub until_ms: i64,
        /// The slice's name; empty for all rows.
        pub slice: String,
        /// The log's `reset_at`: after a reset, a window can be reported again.
        pub since: i64,
        pub rows: i64,
        pub drift: Json,
        /// The metrics as expected from the predictions.
        pub estimate: Option<Json>,
        /// Whether the measured loss was outside of the interval of the estimate; set with the quality.
        pub estimate_missed: Option<bool>,
        pub quality: Option<Json>,
        pub id_min: Uuid,
        pub id_max: Uuid,
        pub closed_at: ChronoDateTimeUtc,
        pub quality_at: Option<ChronoDateTimeUtc>,
        pub correlation_id: Option<Uuid>,
        pub reason: String,
        /// From 1; each further one has another quality.
        pub revision: i32,
        /// What the revision changed; empty of the first.
        pub changes: String,
        /// Of the last chunk of outcomes that the quality counts.
        pub outcomes_position: i64,
        /// What the events of its quality have announced; null until a revision: all that the quality has.
        pub announced: Option<Json>,
        /// By kind of alert, whether the report has the finding; kinds without a verdict are not among them.
        pub findings: Option<Json>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

pub(crate) mod outcome_check {
    use sea_orm::entity::prelude::*;

    /// What became of the outcomes of one chunk, or of outcomes by join key that entered none. Inserted with it; evaluation, under the model's lease, owns the rest:
    ///
    /// ```text
    /// due_at set --(checked: something is pending, and the wait is not over)--> due_at later
    ///            --(checked: otherwise)--> due_at NULL
    /// ```
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "outcome_checks")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub chunk_id: Uuid,
        pub model: String,
        /// All of the chunk; those that no other column counts are pending.
        pub outcomes: i64,
        pub matched: i64,
        pub unmatched: i64,
        pub row_out_of_range: i64,
        pub wrong_model: i64,
        pub invalid_label: i64,
        pub ambiguous: i64,
        /// An example by reason.
        pub examples: Json,
        pub captured_at: ChronoDateTimeUtc,
        pub due_at: Option<ChronoDateTimeUtc>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

pub(crate) mod join_key {
    use sea_orm::entity::prelude::*;

    /// The row that a request id, or an entity key with an event time, names. Owned by capture; deleted by age.
    ///
    /// ```text
    /// (insert) -> is_ambiguous false --(the key is captured for another row)--> is_ambiguous true
    /// ```
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "join_keys")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub join_key: Uuid,
        pub prediction: Uuid,
        pub row: i64,
        pub is_ambiguous: bool,
        pub captured_at: ChronoDateTimeUtc,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

pub(crate) mod pending_outcome {
    use sea_orm::entity::prelude::*;

    /// An outcome by join key. Inserted by capture; evaluation, under the model's lease, removes it: into a chunk of outcomes once the key is
    /// indexed, or when the wait is over.
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "pending_outcomes")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i64,
        pub model: String,
        pub join_key: Uuid,
        /// Distance from the row of the key.
        pub row: i64,
        pub label: Option<String>,
        pub number: Option<f64>,
        pub reported_at: i64,
        pub reported_sequence: i64,
        pub reported_line: i64,
        /// The row in words, for examples.
        pub about: String,
        pub captured_at: ChronoDateTimeUtc,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

pub(crate) mod watch {
    use sea_orm::entity::prelude::*;

    /// The watch settings of a model; updated by compare-and-set on `revision`.
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "watches")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub model: String,
        pub settings: Json,
        pub revision: i64,
        /// That of the settings, to find the watches that have one.
        pub feed_timeout_ms: Option<i64>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

pub(crate) mod alert {
    use sea_orm::entity::prelude::*;

    /// An alert. Evaluation, under the model's lease, opens, extends and resolves those of windows, and the instance that raises alerts the
    /// others; callers acknowledge and resolve.
    ///
    /// ```text
    /// (insert) -> is_open true --(extended, acknowledged)--> is_open true --(resolved)--> is_open false
    /// is_pending true --(notified of the opening)--> is_announced true, is_pending false --(resolved)--> is_pending true --(of the end)--> false
    /// ```
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "alerts")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub model: String,
        pub kind: String,
        pub is_open: bool,
        /// That of its reports: windows that were restarted can open alerts again.
        pub since: i64,
        /// The end of the last window with the finding, in milliseconds.
        pub until_ms: i64,
        pub updated_at: ChronoDateTimeUtc,
        /// Whether receivers were notified of the opening.
        pub is_announced: bool,
        /// Whether receivers are to be notified of the opening or of the end.
        pub is_pending: bool,
        pub content: Json,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

pub(crate) mod notification {
    use sea_orm::entity::prelude::*;

    /// A message to a webhook. Owned by the instance that raises alerts; deleted by age.
    ///
    /// ```text
    /// next_attempt_at set --(accepted)--> delivered_at set, next_attempt_at NULL
    ///                     --(refused)--> next_attempt_at later
    ///                     --(refused for too long)--> failed_at set, next_attempt_at NULL
    /// ```
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "notifications")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub alert_id: Uuid,
        pub receiver: String,
        /// `OPEN` or `RESOLVED`.
        pub state: String,
        pub body: String,
        pub created_at: ChronoDateTimeUtc,
        pub attempts: i32,
        pub next_attempt_at: Option<ChronoDateTimeUtc>,
        pub delivered_at: Option<ChronoDateTimeUtc>,
        pub failed_at: Option<ChronoDateTimeUtc>,
        pub error: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

pub(crate) mod silence {
    use sea_orm::entity::prelude::*;

    /// A time in which alerts are not notified. It can only be shortened.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "silences")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub model: String,
        /// NULL is every kind.
        pub kind: Option<String>,
        pub created_at: ChronoDateTimeUtc,
        pub until: ChronoDateTimeUtc,
        pub by: String,
        pub why: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
