//! Planning and applying: the requests, the pace, and what is kept when.
