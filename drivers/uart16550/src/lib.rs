//! The 16550 UART.

#![no_std]
#![forbid(unsafe_code)]
