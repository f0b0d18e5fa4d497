//! Ends a long read of a plan early.

use std::cell::RefCell;
use std::rc::Rc;

type Interrupt = Rc<dyn Fn() -> bool>;

thread_local! {
    static INTERRUPT: RefCell<Option<Interrupt>> = const { RefCell::new(None) };
}

/// Restores the outer interrupt, also after a panic.
struct Outer(Option<Interrupt>);

impl Drop for Outer {
    fn drop(&mut self) {
        INTERRUPT.set(self.0.take());
    }
}

/// Runs a function. Its reads of plans on this thread call `interrupt` every few milliseconds, and end with
/// [`FileErrorKind::Interrupted`](super::FileErrorKind::Interrupted) if it returns true.
pub fn interruptible<T>(interrupt: impl Fn() -> bool + 'static, work: impl FnOnce() -> T) -> T {
    let _outer = Outer(INTERRUPT.replace(Some(Rc::new(interrupt))));
    work()
}

/// Returns whether a read must end.
pub(super) fn is_due() -> bool {
    // The interrupt may run signal handlers, which may read a plan too.
    let interrupt = INTERRUPT.with_borrow(Clone::clone);
    interrupt.is_some_and(|interrupt| interrupt())
}
