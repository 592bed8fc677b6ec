//! The last desired state of every deployment, in memory and on disk: what a restart serves from when
//! nothing else is up.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use rekindle_domain::{DesiredState, ModelName};
use tokio::sync::watch;

use crate::{
    Error,
    cache::{failed, off_thread, write_whole},
};

/// By model.
pub(crate) type States = BTreeMap<ModelName, DesiredState>;

/// The latest desired states, followed by whoever carries them out.
pub(crate) struct Desired {
    folder: PathBuf,
    states: watch::Sender<States>,
}

impl Desired {
    /// What was saved in `folder`, which is made if need be. A file that cannot be read is left out.
    pub(crate) fn open(folder: PathBuf) -> Result<Self, Error> {
        fs::create_dir_all(&folder).map_err(failed("create", &folder))?;
        let mut states = States::new();
        for path in saved_files(&folder).map_err(failed("list", &folder))? {
            match read(&path) {
                Ok(state) => {
                    states.insert(state.model.clone(), state);
                }
                Err(error) => tracing::error!(error = %error.chain(), "a saved desired state is left out"),
            }
        }
        Ok(Self { folder, states: watch::Sender::new(states) })
    }

    /// Follows the states.
    pub(crate) fn follow(&self) -> watch::Receiver<States> {
        self.states.subscribe()
    }

    /// The states now.
    pub(crate) fn now(&self) -> States {
        self.states.borrow().clone()
    }

    /// Takes over a state from the bucket. It holds even where it cannot be saved.
    pub(crate) async fn set(&self, state: DesiredState) -> Result<(), Error> {
        let changed = self
            .states
            .send_if_modified(|states| states.insert(state.model.clone(), state.clone()).as_ref() != Some(&state));
        if !changed {
            return Ok(());
        }
        let path = self.path(&state.model);
        off_thread(move || {
            let bytes = serde_json::to_vec(&state)
                .map_err(|source| Error::DesiredState { key: path.display().to_string(), source })?;
            write_whole(&path, &bytes)
        })
        .await
    }

    /// The deployment was deleted.
    pub(crate) async fn remove(&self, model: &ModelName) -> Result<(), Error> {
        if !self.states.send_if_modified(|states| states.remove(model).is_some()) {
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

fn read(path: &Path) -> Result<DesiredState, Error> {
    let bytes = fs::read(path).map_err(failed("read", path))?;
    serde_json::from_slice(&bytes).map_err(|source| Error::DesiredState { key: path.display().to_string(), source })
}

#[cfg(test)]
mod tests {
    use rekindle_domain::{Digest, VersionRef};

    use super::*;

    fn state(generation: u64) -> DesiredState {
        let stable = VersionRef { version: 1, bundle: Digest::of(b"bundle") };
        DesiredState { model: "flight-delay".parse().expect("a name"), generation, stable, rollout: None }
    }

    #[tokio::test]
    async fn what_was_set_is_there_after_a_restart_until_it_is_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let open = || Desired::open(folder.path().join("desired")).expect("opens");
        open().set(state(3)).await.expect("saves");
        assert_eq!(open().now()[&state(3).model], state(3));
        fs::write(folder.path().join("desired/other.json"), "{").expect("damages");
        assert_eq!(open().now().len(), 1);
        open().remove(&state(3).model).await.expect("removes");
        assert!(open().now().is_empty());
    }
}
