//! Tables: typed rows out of whatever a user has.
