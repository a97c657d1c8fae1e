//! Values of the application, by type. Node: `socket.data`.

use std::any::{Any, TypeId};
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

/// Values of any type, at most one of each. Node: `socket.data`.
///
/// Values are shared: [`get`](Self::get) hands out an `Arc`. What changes goes behind a lock or an atomic of its own. An
/// empty map allocates nothing.
#[derive(Default)]
pub struct Extensions {
    // Guards the list.
    values: Mutex<Vec<(TypeId, Arc<dyn Any + Send + Sync>)>>,
}

impl Extensions {
    /// Stores `value` and returns the one of the same type that it replaces.
    pub fn insert<T: Send + Sync + 'static>(&self, value: T) -> Option<Arc<T>> {
        let value: Arc<dyn Any + Send + Sync> = Arc::new(value);
        let mut values = self.values.lock();
        let old = match values.iter_mut().find(|(id, _)| *id == TypeId::of::<T>()) {
            Some((_, old)) => std::mem::replace(old, value),
            None => {
                values.push((TypeId::of::<T>(), value));
                return None;
            }
        };
        drop(values);
        old.downcast().ok()
    }

    /// The value of this type.
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        let values = self.values.lock();
        let (_, value) = values.iter().find(|(id, _)| *id == TypeId::of::<T>())?;
        Arc::clone(value).downcast().ok()
    }

    /// The same values once more. What is inserted into one of the two later, the other does not see.
    pub(crate) fn share(&self) -> Self {
        Self { values: Mutex::new(self.values.lock().clone()) }
    }

    /// Whether there is a value of this type.
    pub fn contains<T: Send + Sync + 'static>(&self) -> bool {
        self.values.lock().iter().any(|(id, _)| *id == TypeId::of::<T>())
    }

    /// Takes the value of this type out.
    pub fn remove<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        let mut values = self.values.lock();
        let at = values.iter().position(|(id, _)| *id == TypeId::of::<T>())?;
        values.swap_remove(at).1.downcast().ok()
    }
}

impl fmt::Debug for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Extensions").field("len", &self.values.lock().len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_value_of_each_type() {
        let data = Extensions::default();
        assert_eq!(data.insert(1_u32), None);
        assert_eq!(data.insert("a"), None);
        assert_eq!(data.insert(2_u32).as_deref(), Some(&1));
        assert_eq!((data.get::<u32>().as_deref(), data.get::<&str>().as_deref()), (Some(&2), Some(&"a")));
        assert_eq!(data.get::<i64>(), None);
        assert_eq!(data.remove::<u32>().as_deref(), Some(&2));
        assert!(!data.contains::<u32>());
    }
}
