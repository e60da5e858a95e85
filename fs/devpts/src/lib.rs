//! devpts: the slave ends of pseudo-terminals as files.

#![no_std]
#![forbid(unsafe_code)]
