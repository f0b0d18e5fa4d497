//! What `make reliability` and `make simulate` break on purpose, controlled by the environment. Without the features
//! `sabotage` and `simulation`, and so in every release, this does nothing: all guards are active, and a place is only
//! a name.

/// A guard that can be disabled, to see the test that detects its absence fail.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Guard {
    /// The client reads no more of a body than an answer may have.
    Bound,
    /// A canceled call closes its request.
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
    /// Only one run at a time uses a plan.
    #[cfg(feature = "simulation")]
    OneRun,
    /// A bulk run validates only the caller's values, not the account's own values.
    #[cfg(feature = "plan")]
    OwnValues,
    /// Reading pages checks for progress and missing accounts.
    Progress,
    /// Every answer that asks to wait delays requests.
    RetryAfter,
    /// A revert names the plan that it reverts.
    #[cfg(feature = "plan")]
    RevertParent,
    /// A run notices that the machine slept.
    #[cfg(feature = "plan")]
    Sleep,
    /// Only the service's own answer about an account ends its row.
    #[cfg(feature = "plan")]
    ServiceWord,
    /// Values that the service stored differently are counted.
    #[cfg(feature = "plan")]
    StoredOtherwise,
    /// The values of the answer are kept, and so are the overwritten values.
    #[cfg(feature = "plan")]
    Answers,
    /// Changes of one account in one process run one after the other.
    Turns,
    /// A row that may have been sent stays so until an answer confirms the outcome.
    #[cfg(feature = "plan")]
    Unknown,
    /// A run stops when its update has cleared a member that it cannot include.
    #[cfg(feature = "plan")]
    UnknownMembers,
    /// An invalid answer is not an outage.
    #[cfg(feature = "plan")]
    WrongAnswers,
    /// A forked child has its own runtime and connections.
    Fork,
    /// A value that is looked up once is created before its cell is touched.
    #[cfg(feature = "python")]
    Once,
    /// A panic becomes an `InternalError`.
    #[cfg(feature = "python")]
    Panics,
    /// The client never follows a redirect.
    Redirects,
    /// The client redacts a key that the other side repeats.
    Redaction,
    /// The client checks an idle connection before it uses it again.
    #[cfg(feature = "python")]
    Reuse,
    /// A waiting call checks for signals.
    #[cfg(feature = "python")]
    Signals,
}

/// Returns whether `REPLYIO_WITHOUT` disables a guard.
#[cfg(feature = "sabotage")]
pub(crate) fn is_off(guard: Guard) -> bool {
    let name = format!("{guard:?}").to_lowercase();
    std::env::var("REPLYIO_WITHOUT").is_ok_and(|without| without == name)
}

/// The same; reads the environment once, because a seed calls it often.
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

/// Panics at the place that `REPLYIO_PANIC_AT` names.
#[cfg(feature = "sabotage")]
pub(crate) fn place(name: &str) {
    assert!(std::env::var("REPLYIO_PANIC_AT").as_deref() != Ok(name), "a panic was asked for here");
}

#[cfg(not(feature = "sabotage"))]
pub(crate) const fn place(_name: &str) {}
