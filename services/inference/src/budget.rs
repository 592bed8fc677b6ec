//! The memory for models: what loaded versions take together, by the estimate of their bundles, within a limit.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use rekindle_bundle::Bundle;
use rekindle_domain::Digest;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{Error, serving::LoadedVersion};

/// The limit, and the loaded versions. A version counts until its last request has ended.
pub(crate) struct Budget<T = LoadedVersion> {
    limit: u64,
    loaded: Mutex<Vec<(Weak<T>, u64)>>,
    turns: Arc<Semaphore>,
}

/// The right to load one version.
pub(crate) struct Turn<T = LoadedVersion> {
    budget: Arc<Budget<T>>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl<T> Budget<T> {
    /// A limit in bytes.
    pub(crate) fn new(limit: u64) -> Self {
        Self { limit, loaded: Mutex::default(), turns: Arc::new(Semaphore::new(1)) }
    }

    /// Waits until no other version is being loaded: so none is admitted by what another will take, and the memory of loading is that of
    /// one.
    pub(crate) async fn turn(self: &Arc<Self>) -> Turn<T> {
        // The semaphore is never closed.
        let permit = Arc::clone(&self.turns).acquire_owned().await.ok();
        Turn { budget: Arc::clone(self), _permit: permit }
    }
}

impl<T> Turn<T> {
    /// Builds a version, if it fits.
    pub(crate) fn admit(
        self,
        digest: Digest,
        bundle: &Bundle,
        build: impl FnOnce() -> Result<T, Error>,
    ) -> Result<Arc<T>, Error> {
        let needed = bundle.loaded_bytes().map_err(|source| Error::Bundle { bundle: digest, source: source.into() })?;
        self.admit_bytes(digest, needed, build)
    }

    fn admit_bytes(
        self,
        bundle: Digest,
        needed: u64,
        build: impl FnOnce() -> Result<T, Error>,
    ) -> Result<Arc<T>, Error> {
        let Budget { limit, loaded, .. } = &*self.budget;
        let used = {
            let mut loaded = loaded.lock().unwrap_or_else(PoisonError::into_inner);
            loaded.retain(|(version, _)| version.strong_count() > 0);
            loaded.iter().fold(0_u64, |sum, (_, bytes)| sum.saturating_add(*bytes))
        };
        if used.saturating_add(needed) > *limit {
            return Err(Error::OverBudget { bundle, needed, used, limit: *limit });
        }
        let version = Arc::new(build()?);
        loaded.lock().unwrap_or_else(PoisonError::into_inner).push((Arc::downgrade(&version), needed));
        Ok(version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn admitted(budget: &Arc<Budget<u32>>, bytes: u64) -> Result<Arc<u32>, Error> {
        budget.turn().await.admit_bytes(Digest::of(b"bundle"), bytes, || Ok(7))
    }

    #[tokio::test]
    async fn what_does_not_fit_is_refused_until_another_version_is_freed() {
        let budget = Arc::new(Budget::new(100));
        let first = admitted(&budget, 60).await.expect("it fits");
        let second = admitted(&budget, 40).await.expect("it fits exactly");
        let refused = admitted(&budget, 1).await.expect_err("full").to_string();
        assert!(refused.contains("takes about 1 bytes of memory, and loaded models take 100 of 100"), "{refused}");
        drop(first);
        let third = admitted(&budget, 60).await.expect("the first is freed");
        assert_eq!((*second, *third), (7, 7));
        assert!(admitted(&budget, u64::MAX).await.is_err());
    }

    #[tokio::test]
    async fn a_version_that_fails_to_build_takes_nothing() {
        let budget = Arc::new(Budget::<u32>::new(100));
        let failed = || Err(Error::LoadPanicked { bundle: Digest::of(b"bundle") });
        assert!(budget.turn().await.admit_bytes(Digest::of(b"bundle"), 100, failed).is_err());
        admitted(&budget, 100).await.expect("nothing is taken");
    }
}
