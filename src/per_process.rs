//! State that a forked child must not share with its parent.

use std::convert::Infallible;
use std::sync::Arc;
use std::{mem, process};

use once_cell::race::OnceBox;

use crate::sabotage::{self, Guard};

/// A process, identified by its id. Reading the id is a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process(u32);

impl Process {
    /// Returns this process.
    pub fn current() -> Self {
        if sabotage::is_off(Guard::Fork) {
            return Self(0);
        }
        Self(process::id())
    }
}

/// A value for each process. A forked child creates its own; the parent's value stays untouched, including the locks
/// held at the moment of the fork, and the child never drops it. Access takes no lock.
#[derive(Debug)]
pub struct PerProcess<T>(OnceBox<Node<T>>);

#[derive(Debug)]
struct Node<T> {
    process: Process,
    value: Arc<T>,
    child: PerProcess<T>,
}

impl<T> PerProcess<T> {
    /// Creates one without a value.
    pub const fn new() -> Self {
        Self(OnceBox::new())
    }

    /// Returns the value of a process, which must be this one, created on first use. If two threads create it at once,
    /// one value is dropped.
    ///
    /// # Errors
    /// Returns the errors of `make`; the next call tries again.
    pub fn get_or_try_init<E>(&self, process: Process, make: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        let mut place = self;
        loop {
            match place.0.get() {
                Some(node) if node.process == process => return Ok(&node.value),
                Some(node) => place = &node.child,
                None => break,
            }
        }
        let value = Arc::new(make()?);
        let node = place.0.get_or_init(|| Box::new(Node { process, value, child: Self::new() }));
        Ok(&node.value)
    }

    /// The same, for a value whose creation cannot fail.
    pub fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        let Ok(value) = self.get_or_try_init(Process::current(), || Ok::<T, Infallible>(make()));
        value
    }

    /// Returns the value of a process, which must be this one, if it exists.
    pub fn get(&self, process: Process) -> Option<&T> {
        let mut place = self;
        loop {
            match place.0.get()? {
                node if node.process == process => return Some(&node.value),
                node => place = &node.child,
            }
        }
    }
}

impl<T> Drop for Node<T> {
    fn drop(&mut self) {
        if self.process != Process::current() {
            mem::forget(Arc::clone(&self.value));
        }
    }
}

impl<T> Default for PerProcess<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::{PerProcess, Process};

    #[test]
    fn a_value_is_made_once() {
        let value = PerProcess::new();
        assert_eq!(value.get(Process::current()), None);
        assert_eq!((value.get_or_init(|| 1), value.get_or_init(|| 2)), (&1, &1));
        assert_eq!(value.get(Process::current()), Some(&1));
    }
}
