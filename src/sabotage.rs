//! What `make reliability` breaks on purpose, told by the environment. Without the feature `sabotage`, and so in every
//! release, nothing of this exists: guards are always there, and a place is only a name.

/// A guard that can be taken away, to see the test that watches it fail.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Guard {
    /// No more of a body is read than an answer may have.
    Bound,
    /// A cancelled call closes its request.
    #[cfg(feature = "python")]
    Cancellation,
    /// Calls in other threads are parked when the interpreter exits.
    #[cfg(feature = "python")]
    Exit,
    /// A forked child has a runtime and connections of its own.
    Fork,
    /// What is looked up once is made before its cell is touched.
    #[cfg(feature = "python")]
    Once,
    /// A panic becomes an `InternalError`.
    #[cfg(feature = "python")]
    Panics,
    /// A redirect is not followed.
    Redirects,
    /// A key that the other side repeats is taken out of what is shown.
    Redaction,
    /// A connection that lay idle is looked at before it is used again.
    #[cfg(feature = "python")]
    Reuse,
    /// A waiting call looks for signals.
    #[cfg(feature = "python")]
    Signals,
}

/// Whether a guard has been taken away, with `REPLYIO_WITHOUT`.
#[cfg(feature = "sabotage")]
pub(crate) fn is_off(guard: Guard) -> bool {
    let name = format!("{guard:?}").to_lowercase();
    std::env::var("REPLYIO_WITHOUT").is_ok_and(|without| without == name)
}

#[cfg(not(feature = "sabotage"))]
pub(crate) const fn is_off(_guard: Guard) -> bool {
    false
}

/// Panics where `REPLYIO_PANIC_AT` says so.
#[cfg(feature = "sabotage")]
pub(crate) fn place(name: &str) {
    assert!(std::env::var("REPLYIO_PANIC_AT").as_deref() != Ok(name), "a panic was asked for here");
}

#[cfg(not(feature = "sabotage"))]
pub(crate) const fn place(_name: &str) {}
