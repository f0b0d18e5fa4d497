//! What `make reliability` and `make simulate` break on purpose, told by the environment. Without the features `sabotage` and
//! `simulation`, and so in every release, nothing of this exists: guards are always there, and a place is only a name.

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
    /// No update is built on an item of the list before items were compared with their account.
    #[cfg(feature = "plan")]
    CompleteItems,
    /// A row names each column once.
    #[cfg(feature = "plan")]
    OneCell,
    /// A run has a plan for itself.
    #[cfg(feature = "simulation")]
    OneRun,
    /// A bulk run judges only what the caller says, not the account's own values.
    #[cfg(feature = "plan")]
    OwnValues,
    /// The reading of pages checks that it makes progress and misses nothing.
    Progress,
    /// Every answer that asks to wait is heeded.
    RetryAfter,
    /// A revert names the plan that it reverts.
    #[cfg(feature = "plan")]
    RevertParent,
    /// Only the service's own word about an account ends its row.
    #[cfg(feature = "plan")]
    ServiceWord,
    /// What the service stored otherwise than sent is counted.
    #[cfg(feature = "plan")]
    StoredOtherwise,
    /// What the service answered is kept, and so is what was really overwritten.
    #[cfg(feature = "plan")]
    Answers,
    /// Changes of one account in one process take turns.
    Turns,
    /// A row that may have been sent stays so until an answer tells.
    #[cfg(feature = "plan")]
    Unknown,
    /// A run stops when its update has cleared a member that it cannot carry.
    #[cfg(feature = "plan")]
    UnknownMembers,
    /// A wrong answer is no outage.
    #[cfg(feature = "plan")]
    WrongAnswers,
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

/// The same; the environment is read once, since a seed asks often.
#[cfg(all(feature = "simulation", not(feature = "sabotage")))]
pub(crate) fn is_off(guard: Guard) -> bool {
    static WITHOUT: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let without = WITHOUT.get_or_init(|| std::env::var("REPLYIO_WITHOUT").ok());
    without.as_ref().is_some_and(|without| *without == format!("{guard:?}").to_lowercase())
}

#[cfg(not(any(feature = "sabotage", feature = "simulation")))]
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
