//! Which containers a pod's shim knows, and what it owes to those that are still coming.

use std::collections::HashMap;
use std::sync::Arc;

/// The containers by their ids, and whether the shim should end.
#[derive(Debug)]
pub(super) struct Registry<C> {
    known: HashMap<String, Entry<C>>,
    /// containerd said Shutdown while a container was being created.
    shutdown: bool,
}

#[derive(Debug)]
enum Entry<C> {
    /// It is being created; `abandoned` if containerd has given up on it.
    Creating { abandoned: bool },
    /// It is there.
    Created(Arc<C>),
}

/// What becomes of a container whose creation has finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is one of the pod's.
    Kept,
    /// containerd has given up on it: it has to be taken away.
    Abandoned,
}

impl<C> Default for Registry<C> {
    fn default() -> Self {
        Self { known: HashMap::new(), shutdown: false }
    }
}

impl<C> Registry<C> {
    /// Notes that a container is being created; `false` if there is one of this id.
    pub(super) fn begin(&mut self, id: &str) -> bool {
        if self.known.contains_key(id) {
            return false;
        }
        self.known.insert(id.to_owned(), Entry::Creating { abandoned: false });
        true
    }

    /// Notes that containerd no longer waits for a container; `false` if none of this id is being created.
    pub(super) fn abandon(&mut self, id: &str) -> bool {
        match self.known.get_mut(id) {
            Some(Entry::Creating { abandoned }) => {
                *abandoned = true;
                true
            }
            _ => false,
        }
    }

    /// Notes that a container was created.
    pub(super) fn finish(&mut self, id: &str, container: &Arc<C>) -> Outcome {
        match self.known.get_mut(id) {
            Some(entry @ Entry::Creating { abandoned: false }) => {
                *entry = Entry::Created(Arc::clone(container));
                Outcome::Kept
            }
            _ => Outcome::Abandoned,
        }
    }

    /// A container that was created.
    pub(super) fn get(&self, id: &str) -> Option<Arc<C>> {
        match self.known.get(id) {
            Some(Entry::Created(container)) => Some(Arc::clone(container)),
            _ => None,
        }
    }

    /// Forgets a container; `false` if it was not known.
    pub(super) fn remove(&mut self, id: &str) -> bool {
        self.known.remove(id).is_some()
    }

    /// Notes that containerd wants the shim to end. It says so after every container: it counts for an empty shim, and
    /// for one whose last container does not come into being.
    pub(super) fn shutdown(&mut self) {
        self.shutdown = true;
    }

    /// Whether containerd wants the shim to end and nothing is left that it is needed for.
    pub(super) fn may_end(&self) -> bool {
        self.shutdown && self.known.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_known_once_it_was_created() {
        let mut registry = Registry::default();
        assert!(registry.begin("c1"));
        assert!(registry.get("c1").is_none());
        assert_eq!(registry.finish("c1", &Arc::new(())), Outcome::Kept);
        assert!(registry.get("c1").is_some());
    }

    #[test]
    fn an_id_is_taken_as_soon_as_its_creation_begins() {
        let mut registry = Registry::<()>::default();
        registry.begin("c1");
        assert!(!registry.begin("c1"));
    }

    #[test]
    fn what_was_abandoned_while_it_was_created_is_not_kept() {
        let mut registry = Registry::default();
        registry.begin("c1");
        assert!(registry.abandon("c1"));
        assert_eq!(registry.finish("c1", &Arc::new(())), Outcome::Abandoned);
        assert!(registry.get("c1").is_none());
    }

    #[test]
    fn what_was_created_cannot_be_abandoned() {
        let mut registry = Registry::default();
        registry.begin("c1");
        registry.finish("c1", &Arc::new(()));
        assert!(!registry.abandon("c1"));
        assert!(!registry.abandon("c2"));
    }

    #[test]
    fn the_shim_ends_after_the_last_abandoned_container_is_gone() {
        let mut registry = Registry::<()>::default();
        registry.begin("c1");
        registry.abandon("c1");
        registry.shutdown();
        assert!(!registry.may_end(), "its process is still there");
        registry.remove("c1");
        assert!(registry.may_end());
    }
}
