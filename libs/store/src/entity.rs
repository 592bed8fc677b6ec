//! The shared tables as sea-orm sees them.

#![expect(unreachable_pub, reason = "sea-orm derives public items beside these")]

/// Events that are committed and not yet acknowledged by the bus.
pub(crate) mod outbox {
    use sea_orm::entity::prelude::*;

    #[derive(Debug, Clone, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "outbox")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub sequence: i64,
        pub id: Uuid,
        /// The relay that claimed the event; `None` until one has.
        pub source: Option<String>,
        /// Its position among the published events of this database; `None` until a relay has claimed it.
        pub position: Option<i64>,
        pub kind: String,
        pub name: String,
        pub data: Json,
        pub correlation_id: String,
        pub causation_id: String,
        pub partition_key: String,
        pub traceparent: Option<String>,
        pub time: DateTimeUtc,
    }

    #[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// One row: the identity of the database, and how many events have been claimed and published.
pub(crate) mod outbox_total {
    use sea_orm::entity::prelude::*;

    #[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "outbox_total")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i32,
        pub published: i64,
        /// The position of the last event that was claimed.
        pub claimed: i64,
        /// Generated when the database was created.
        pub database: Uuid,
    }

    #[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Entries of the audit trail. Only position and hash are ever written again, once.
pub(crate) mod audit {
    use sea_orm::entity::prelude::*;

    #[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "audit")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub sequence: i64,
        /// From 1; `None` until the entry is sealed.
        pub position: Option<i64>,
        pub hash: Option<String>,
        pub request_id: Uuid,
        pub actor: String,
        pub action: String,
        pub object: String,
        pub before: String,
        pub after: String,
        pub reason: String,
        pub correlation_id: String,
        pub time: DateTimeUtc,
    }

    #[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// One row: how many entries are sealed, and the hash of the last one.
pub(crate) mod audit_head {
    use sea_orm::entity::prelude::*;

    #[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "audit_head")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i32,
        pub entries: i64,
        pub hash: String,
    }

    #[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Messages that a consumer has processed.
pub(crate) mod inbox {
    use sea_orm::entity::prelude::*;

    #[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "inbox")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub consumer: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub message_id: String,
        pub received_at: DateTimeUtc,
    }

    #[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Calls that have been answered.
pub(crate) mod idempotency {
    use sea_orm::entity::prelude::*;

    #[derive(Debug, Clone, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "idempotency")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub scope: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub key: String,
        pub request_digest: String,
        pub response: Json,
        pub answered_at: DateTimeUtc,
    }

    #[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Who holds which lease.
pub(crate) mod lease {
    use sea_orm::entity::prelude::*;

    #[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "leases")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub name: String,
        /// Empty while the lease is free.
        pub holder: String,
        /// Grows with every change of holder.
        pub epoch: i64,
        /// Grows while the holder acts.
        pub renewals: i64,
    }

    #[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
