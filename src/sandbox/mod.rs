//! A server with the contract's semantics, on 127.0.0.1.
