//! Which request to send next, and what the answers mean for the rows. Pure.
