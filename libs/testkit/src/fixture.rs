//! Data that earlier releases wrote (`integration-tests/fixtures`): databases, objects, buckets and messages, restored for a test of the
//! current build.

use std::{
    fs,
    path::{Path, PathBuf},
};

use sea_orm::{ConnectionTrait as _, Database};

use crate::Postgres;

/// The fixture of one release. It is only read: what a test changes is a copy.
#[derive(Debug, Clone)]
pub struct Fixture {
    folder: PathBuf,
}

impl Fixture {
    /// The fixture of a release, e.g. `0.1.0`.
    ///
    /// # Panics
    /// When the release has none.
    pub fn of(release: &str) -> Self {
        let folder = fixtures().join(release);
        assert!(folder.is_dir(), "no fixture of release {release}: {} is not a folder", folder.display());
        Self { folder }
    }

    /// Every recorded release, by name.
    pub fn all() -> Vec<Self> {
        let entries = fs::read_dir(fixtures()).expect("the folder of fixtures can be read");
        let mut folders: Vec<PathBuf> =
            entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_dir()).collect();
        folders.sort();
        folders.into_iter().map(|folder| Self { folder }).collect()
    }

    /// The bytes of a file, by its path inside the fixture.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn read(&self, path: impl AsRef<Path>) -> Vec<u8> {
        let path = self.folder.join(path);
        fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// The text of a file, by its path inside the fixture.
    ///
    /// # Panics
    /// When there is no such file or it is not UTF-8.
    pub fn text(&self, path: impl AsRef<Path>) -> String {
        String::from_utf8(self.read(path)).expect("the file is UTF-8")
    }

    /// Restores a service's SQLite database to a new file in `folder`, and returns its URL.
    ///
    /// # Panics
    /// When the file exists or the SQL text cannot be executed.
    pub async fn restore_sqlite(&self, service: &str, folder: &Path) -> String {
        let file = folder.join(format!("{service}.db"));
        assert!(!file.exists(), "{} exists", file.display());
        let url = format!("sqlite://{}", file.display());
        // One transaction: a sync for each row would take seconds.
        let sql = format!("BEGIN;\n{}COMMIT;\n", self.text(format!("{service}.sql")));
        execute(&format!("{url}?mode=rwc"), &sql).await;
        url
    }

    /// Restores a service's PostgreSQL database to a new database of the server, and returns its URL.
    ///
    /// # Panics
    /// When the SQL text cannot be executed.
    pub async fn restore_postgres(&self, service: &str, server: &Postgres) -> String {
        let url = server.fresh_database().await;
        execute(&url, &self.text(format!("{service}.postgres.sql"))).await;
        url
    }

    /// Copies the object store to `folder`, which must be empty or absent.
    ///
    /// # Panics
    /// When a file cannot be copied.
    pub fn copy_objects(&self, folder: &Path) {
        copy(&self.folder.join("objects"), folder);
    }

    /// Copies a replica's cache to `folder`: the desired state, and every blob of the object store under its digest's hex digits.
    ///
    /// # Panics
    /// When a file cannot be copied.
    pub fn copy_cache(&self, folder: &Path) {
        copy(&self.folder.join("cache"), folder);
        let blobs = folder.join("blobs");
        for prefix in fs::read_dir(self.folder.join("objects/blobs/sha256")).expect("the blobs can be read") {
            copy(&prefix.expect("an entry").path(), &blobs);
        }
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../integration-tests/fixtures")
}

/// Executes statements separated by semicolons on one connection.
async fn execute(url: &str, sql: &str) {
    let database = Box::pin(Database::connect(url)).await.expect("the database opens");
    if let Err(error) = database.execute_unprepared(sql).await {
        panic!("the fixture cannot be restored: {error}");
    }
    database.close().await.expect("it was open");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the folder can be created");
    for entry in fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display())) {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).unwrap_or_else(|error| panic!("{}: {error}", target.display()));
        }
    }
}
