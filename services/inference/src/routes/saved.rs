//! The latest routes of every model, in memory and on disk: a restarted replica serves from them when nothing else is up.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use rekindle_domain::{ModelName, Routes};
use rekindle_service::chain;
use tokio::sync::watch;

use crate::{
    Error,
    disk::{failed, off_thread, write_file},
};

/// Routes by model.
pub(crate) type RoutesByModel = BTreeMap<ModelName, Routes>;

/// The latest routes, which the reconciler subscribes to.
pub(crate) struct SavedRoutes {
    folder: PathBuf,
    routes: watch::Sender<RoutesByModel>,
}

impl SavedRoutes {
    /// The routes that were saved in `folder`, which is created if it does not exist. Unreadable files are skipped.
    pub(crate) fn open(folder: PathBuf) -> Result<Self, Error> {
        fs::create_dir_all(&folder).map_err(failed("create", &folder))?;
        let mut saved = RoutesByModel::new();
        for path in saved_files(&folder).map_err(failed("list", &folder))? {
            match read(&path) {
                Ok(routes) => {
                    saved.insert(routes.model.clone(), routes);
                }
                Err(error) => tracing::error!(error = chain(&error), "saved routes skipped"),
            }
        }
        Ok(Self { folder, routes: watch::Sender::new(saved) })
    }

    /// A receiver of every change.
    pub(crate) fn subscribe(&self) -> watch::Receiver<RoutesByModel> {
        self.routes.subscribe()
    }

    /// The routes now.
    pub(crate) fn current(&self) -> RoutesByModel {
        self.routes.borrow().clone()
    }

    /// Sets the routes of one model. They are in force even if saving them fails.
    pub(crate) async fn set(&self, routes: Routes) -> Result<(), Error> {
        let changed = self
            .routes
            .send_if_modified(|saved| saved.insert(routes.model.clone(), routes.clone()).as_ref() != Some(&routes));
        if !changed {
            return Ok(());
        }
        let path = self.path(&routes.model);
        off_thread(move || {
            let json = serde_json::to_vec(&routes).map_err(|source| Error::SavedRoutes {
                operation: "encode",
                path: path.clone(),
                source,
            })?;
            write_file(&path, &json)
        })
        .await
    }

    /// Removes the routes of a model whose deployment was deleted.
    pub(crate) async fn remove(&self, model: &ModelName) -> Result<(), Error> {
        if !self.routes.send_if_modified(|saved| saved.remove(model).is_some()) {
            return Ok(());
        }
        let path = self.path(model);
        off_thread(move || match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("delete", &path)(error)),
            _ => Ok(()),
        })
        .await
    }

    fn path(&self, model: &ModelName) -> PathBuf {
        self.folder.join(format!("{model}.json"))
    }
}

fn saved_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            paths.push(path);
        }
    }
    Ok(paths)
}

fn read(path: &Path) -> Result<Routes, Error> {
    let json = fs::read(path).map_err(failed("read", path))?;
    serde_json::from_slice(&json).map_err(|source| Error::SavedRoutes {
        operation: "decode",
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use rekindle_domain::{Digest, VersionRef};

    use super::*;

    fn routes(generation: u64) -> Routes {
        let primary = VersionRef { version: 1, bundle: Digest::of(b"bundle") };
        Routes::to("flight-delay".parse().expect("a name"), generation, primary)
    }

    #[tokio::test]
    async fn routes_survive_a_restart_until_they_are_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let open = || SavedRoutes::open(folder.path().join("routes")).expect("opens");
        open().set(routes(3)).await.expect("saves");
        assert_eq!(open().current()[&routes(3).model], routes(3));
        fs::write(folder.path().join("routes/other.json"), "{").expect("damages");
        assert_eq!(open().current().len(), 1);
        open().remove(&routes(3).model).await.expect("removes");
        assert!(open().current().is_empty());
    }

    #[test]
    fn routes_that_the_first_schema_saved_are_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let saved = format!(
            r#"{{"model":"flight-delay","generation":3,"stable":{{"version":1,"bundle":"{}"}},"rollout":null}}"#,
            Digest::of(b"bundle")
        );
        fs::write(folder.path().join("flight-delay.json"), saved).expect("writes");
        let opened = SavedRoutes::open(folder.path().to_owned()).expect("opens");
        assert_eq!(opened.current()[&routes(3).model], routes(3));
    }
}
